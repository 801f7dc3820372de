"""Turns: this process makes the changes of one record one after the other."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
