"""Drivers to be held: in memory, and away when a test says so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.core.memory.base import DriverHealth
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    record_id,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
)
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
        """Raised by a `keep` or `replace` that has happened."""
        self.keep_error: MemoryServiceError | None = None
        """Raised by a `keep` or `replace` that has not happened."""
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

    async def _recall(self, wanted: Recall) -> list[Memory]:
        await self._reach("recall")
        return await super()._recall(wanted)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        await self._reach("recall_knowledge")
        return await super()._recall_knowledge(wanted)

    async def _get(self, wanted: Get) -> Record | None:
        await self._reach("get")
        return await super()._get(wanted)

    async def _page(self, wanted: Page) -> MemoryPage:
        await self._reach("page")
        return await super()._page(wanted)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        await self._reach("page_knowledge")
        return await super()._page_knowledge(wanted)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        await self._reach("keep")
        if self.keep_error is not None:
            raise self.keep_error
        kept = await super()._keep(wanted)
        if self.error_after is not None:
            raise self.error_after
        return kept

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        await self._reach("put")
        if self.keep_error is not None:
            raise self.keep_error
        answer = await super()._put(wanted)
        if self.error_after is not None:
            raise self.error_after
        return answer

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        await self._reach("replace")
        if self.keep_error is not None:
            raise self.keep_error
        replaced = await super()._replace(wanted)
        if self.error_after is not None:
            raise self.error_after
        return replaced

    async def _delete(self, wanted: Delete) -> int:
        await self._reach("delete")
        if self.delete_error is not None and wanted.kind == "memory":
            raise self.delete_error
        return await super()._delete(wanted)

    async def _forget(self, wanted: Forget) -> int:
        await self._reach("forget")
        if self.delete_error is not None:
            raise self.delete_error
        return await super()._forget(wanted)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        await self._reach("export")
        async for record in super()._export(wanted):
            yield record

    async def health_check(self) -> DriverHealth:
        if isinstance(self.error, DriverUnavailable):
            return DriverHealth(driver=self.name, status="unavailable", detail=self.error.detail)
        return await super().health_check()

    async def ids(self) -> set[str]:
        """Of everything that is kept, as it is."""
        return {record_id(record) async for record in super()._export(Export())}


async def until(condition: Any, seconds: float = 10.0) -> None:
    """Wait until the awaited condition holds; fail when it does not in time."""
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.01)
