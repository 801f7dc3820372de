"""Drivers to be held: in memory, and away when a test says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.core.memory.base import DriverHealth
from app.core.memory.codec import Record, record_id
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import DriverUnavailable, MemoryServiceError
from app.settings import Limits


class Held(InMemoryDriver):
    """Raises `error` on every verb while it has one; `slow` seconds pass before each."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        super().__init__(embedder, Limits())
        self.name = name
        self.error: MemoryServiceError | None = None
        self.error_after: MemoryServiceError | None = None
        """Raised by an import that has happened."""
        self.import_error: MemoryServiceError | None = None
        """Raised by an import that has not happened."""
        self.delete_error: MemoryServiceError | None = None
        """Raised by a delete that has not happened."""
        self.slow = 0.0
        self.calls: list[str] = []
        self.opened = 0
        self.closed = 0

    async def _reach(self, verb: str) -> None:
        self.calls.append(verb)
        if self.slow:
            await asyncio.sleep(self.slow)
        if self.error is not None:
            raise self.error

    async def open(self) -> None:
        await super().open()
        self.opened += 1
        if self.error is not None:
            raise self.error

    async def close(self) -> None:
        await super().close()
        self.closed += 1

    async def recall(self, *arguments: Any, **named: Any) -> Any:
        await self._reach("recall")
        return await super().recall(*arguments, **named)

    async def recall_global_knowledge(self, *arguments: Any, **named: Any) -> Any:
        await self._reach("recall_global_knowledge")
        return await super().recall_global_knowledge(*arguments, **named)

    async def store(self, *arguments: Any, **named: Any) -> Any:
        await self._reach("store")
        return await super().store(*arguments, **named)

    async def get(self, *arguments: Any, **named: Any) -> Any:
        await self._reach("get")
        return await super().get(*arguments, **named)

    async def list_memories(self, *arguments: Any, **named: Any) -> Any:
        await self._reach("list_memories")
        return await super().list_memories(*arguments, **named)

    async def import_records(self, records: Sequence[Record]) -> None:
        await self._reach("import_records")
        if self.import_error is not None:
            raise self.import_error
        await super().import_records(records)
        if self.error_after is not None:
            raise self.error_after

    async def delete(self, *arguments: Any, **named: Any) -> bool:
        await self._reach("delete")
        if self.delete_error is not None:
            raise self.delete_error
        return await super().delete(*arguments, **named)

    async def delete_user(self, user_id: str) -> int:
        await self._reach("delete_user")
        return await super().delete_user(user_id)

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        await self._reach("delete_knowledge")
        return await super().delete_knowledge(knowledge_id)

    async def export_records(self) -> AsyncIterator[Record]:
        await self._reach("export_records")
        async for record in super().export_records():
            yield record

    async def health_check(self) -> DriverHealth:
        if isinstance(self.error, DriverUnavailable):
            return DriverHealth(driver=self.name, status="unavailable", detail=self.error.detail)
        return await super().health_check()

    async def ids(self) -> set[str]:
        """Of everything that is kept, as it is."""
        return {record_id(record) async for record in super().export_records()}


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until the awaited condition holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
