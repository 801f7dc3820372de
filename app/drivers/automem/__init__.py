"""The automem driver: a running AutoMem, over HTTP with httpx."""

from app.drivers.automem.driver import AutomemDriver

__all__ = ["AutomemDriver"]
