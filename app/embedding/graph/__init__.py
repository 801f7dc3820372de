"""A model as a graph on disk: exported once by torch, then run without it."""
