"""Writes that a driver still has to get: kept outside every backend, and delivered in order."""
