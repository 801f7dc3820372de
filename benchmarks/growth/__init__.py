"""How a recall's time, and what it finds, change as rows grow."""
