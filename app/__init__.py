"""The memory driver service: one REST API for agents' memory, on the backend you choose."""

__version__ = "0.1.0"
