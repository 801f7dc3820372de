"""The automem driver: a running AutoMem, over HTTP with httpx."""

from app.core.memory.drivers.automem.driver import AutomemDriver

__all__ = ["AutomemDriver"]
