"""Makes a `RecordDriver` of somebody's own driver, which has the six verbs alone."""

from collections.abc import AsyncIterator, Sequence
from typing import NoReturn, cast

from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.filter import Filter
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Knowledge, Memory, MemoryPage, Record, UserPage
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    Recall,
    RecallKnowledge,
    Users,
)
from app.errors import CapabilityMissing
from app.settings import Limits


def record_driver(driver: BaseMemoryDriver, limits: Limits) -> RecordDriver:
    """`driver` itself if it is a `RecordDriver`, else a `SixVerbs` around it."""
    return driver if isinstance(driver, RecordDriver) else SixVerbs(driver, limits)


class SixVerbs(RecordDriver):
    """Asks a driver of six verbs, which gives its records ids of its own."""

    complete = False

    def __init__(self, driver: BaseMemoryDriver, limits: Limits) -> None:
        super().__init__(limits)
        self._driver = driver
        self.name = driver.name

    async def open(self) -> None:
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()

    def identity(self) -> frozenset[str] | None:
        return self._driver.identity()

    def leaves(self) -> frozenset[BaseMemoryDriver]:
        return self._driver.leaves()

    async def health_check(self) -> DriverHealth:
        return await self._driver.health_check()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        if wanted.filter != Filter(no_tags=wanted.filter.no_tags):
            self._can_t("filter a recall")
        return await self._driver.recall(
            user_id=wanted.user_id,
            conversation_id=wanted.conversation_id,
            query=wanted.query,
            top_k=wanted.top_k,
            use_vector=wanted.use_vector,
            exclude_tags=list(wanted.filter.no_tags) or None,
        )

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        if wanted.filter or wanted.doc_id is not None:
            self._can_t("filter a recall")
        return await self._driver.recall_global_knowledge(
            query=wanted.query, top_k=wanted.top_k, category=wanted.category
        )

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once or not wanted.new or len(wanted.records) > 1:
            self._can_t("keep records that have ids")
        record: Record = wanted.records[0]
        if record.expires_at is not None:
            self._can_t("let records expire")
        if isinstance(record, Memory) and record.occurred_at != record.created_at:
            self._can_t("keep when something happened")
        if isinstance(record, Memory):
            kept: Record = await self._driver.store(
                user_id=record.user_id,
                content=record.content,
                conversation_id=record.conversation_id,
                tags=record.tags,
                metadata=record.metadata,
            )
        else:
            kept = await self._driver.store_global_knowledge(
                content=record.content,
                category=record.category,
                title=record.title,
                doc_id=record.doc_id,
                metadata=record.metadata,
            )
        return [cast(Kept, kept)]

    async def _delete(self, wanted: Delete) -> int:
        if wanted.kind == "knowledge":
            self._can_t("delete knowledge")
        return sum(
            [
                await self._driver.delete(memory_id=each, user_id=wanted.user_id)
                for each in wanted.ids
            ]
        )

    async def _get(self, wanted: Get) -> Record | None:
        self._can_t("look a record up: name the memory's user")

    async def _page(self, wanted: Page) -> MemoryPage:
        self._can_t("list memories")

    def _export(self, wanted: Export) -> AsyncIterator[Record]:
        self._can_t("export records")

    async def _forget(self, wanted: Forget) -> int:
        self._can_t("forget a user")

    async def _users(self, wanted: Users) -> UserPage:
        self._can_t("list users")

    def _can_t(self, what: str) -> NoReturn:
        raise CapabilityMissing(f"The driver {self.name!r} can't {what}")
