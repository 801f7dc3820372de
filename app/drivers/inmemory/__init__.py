"""The inmemory driver: everything in this process, nothing kept when it ends."""

from app.drivers.inmemory.driver import InMemoryDriver

__all__ = ["InMemoryDriver"]
