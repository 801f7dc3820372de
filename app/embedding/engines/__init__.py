"""What turns prepared texts into vectors, in a worker thread."""
