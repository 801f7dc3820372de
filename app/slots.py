"""How many calls of one kind may be under way at the same time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class NoSlotFree(Exception):
    """All slots stayed taken for as long as a caller waits; nothing was sent."""


class Slots:
    """`size` slots; a caller waits for a free one for up to `seconds`, first come first served.

    They stand in front of an httpx client that has no bound of its own: httpcore's pool loses a
    slot for good when a caller stops waiting just as it gets one (encode/httpcore #550, #1093).
    """

    def __init__(self, size: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(size)
        self._seconds = seconds

    @asynccontextmanager
    async def one(self, seconds: float | None = None) -> AsyncIterator[None]:
        """Hold a slot; `seconds` in the place of the usual wait. Raises `NoSlotFree`."""
        try:
            async with asyncio.timeout(self._seconds if seconds is None else seconds):
                await self._free.acquire()
        except TimeoutError:
            raise NoSlotFree from None
        try:
            yield
        finally:
            self._free.release()
