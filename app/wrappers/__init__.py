"""Drivers that hold drivers. They are given built ones; only the manager resolves names."""
