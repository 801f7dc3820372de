"""Turns: this process makes the changes of one record one after the other."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from weakref import WeakValueDictionary


class Turns:
    """A lock for each record id that is being changed in this process, first come first served."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, record_id: str) -> AsyncIterator[None]:
        lock = self._locks.setdefault(record_id, asyncio.Lock())
        async with lock:
            yield

    @asynccontextmanager
    async def of_all(self, record_ids: Iterable[str]) -> AsyncIterator[None]:
        """The turn of all of them, taken in one order, so that no two wait for each other."""
        async with AsyncExitStack() as stack:
            for each in sorted(set(record_ids)):
                await stack.enter_async_context(self.of(each))
            yield
