"""What the `cached` driver is made of: where answers are kept, and what may be kept there."""
