"""The memory drivers, for use in this process; `app.api` serves them over HTTP."""

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.manager import MemoryDriverManager

__all__ = ["get_memory_driver", "set_memory_driver"]


def get_memory_driver(name: str | None = None) -> BaseMemoryDriver:
    """The configured driver, or the named one: built once, and not opened yet."""
    return MemoryDriverManager.shared().driver(name)


def set_memory_driver(name: str) -> BaseMemoryDriver:
    """Make `name` the driver that `get_memory_driver` gives from now on."""
    return MemoryDriverManager.shared().select(name)
