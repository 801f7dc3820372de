"""Writes that are pending for a driver: kept outside every backend, until it has them."""
