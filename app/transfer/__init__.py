"""Records from one driver to another."""
