"""Memories and knowledge in Weaviate: memories are ranked by the service, knowledge by vectors."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Self

from app.core.memory.base import DriverContext, DriverHealth, HealthStatus
from app.core.memory.cursor import UserCursor, user_page
from app.core.memory.querying import check_language
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    UserPage,
    is_alive,
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
    Users,
)
from app.core.memory.reranked import Reranked
from app.drivers.weaviate.bodies import equal, every
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.deleting import Deleting
from app.drivers.weaviate.documents import Documents
from app.drivers.weaviate.health import troubles
from app.drivers.weaviate.knowledge import KnowledgeSearch
from app.drivers.weaviate.layout import KNOWLEDGE, hashed, milliseconds
from app.drivers.weaviate.puts import OF_PUTS, Puts, is_shown
from app.drivers.weaviate.reading import WHOLE, Lists, record_of
from app.drivers.weaviate.recall import RankedRecall
from app.drivers.weaviate.sweeper import Sweeper
from app.drivers.weaviate.writing import Writing
from app.embedding import Embedder
from app.errors import MemoryServiceError
from app.reranking import Reranking
from app.settings import Limits, RecallSettings, WeaviateSettings

_HEALTH_SECONDS = 2.0
_MOST_OWNERS = 1_000
_USERS_AT_ONCE = 100


class WeaviateDriver(RecordDriver):
    """Weaviate 1.38.10 or newer.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2. Weaviate has no transactions: `docs/drivers/weaviate.md` tells which bounds
    hold where two services write at once.
    """

    name = "weaviate"
    explains = True
    weighs_recency = True
    keeps_documents = True

    def __init__(
        self,
        settings: WeaviateSettings,
        embedder: Embedder,
        limits: Limits,
        recall: RecallSettings | None = None,
        reranking: Reranking | None = None,
    ) -> None:
        super().__init__(limits)
        recall = recall or RecallSettings()
        check_language(recall.language)
        self._embedder = embedder
        self._reranked = Reranked(reranking)
        self._database = Database(settings, embedder, recall.language)
        self._puts = Puts(self._database)
        self._lists = Lists(self._database, self._puts)
        self._ranked = RankedRecall(self._database, self._lists, embedder, recall, self._now)
        self._knowledge = KnowledgeSearch(self._database, self._puts, embedder, self._now)
        self._writing = Writing(self._database, embedder, settings.timeout, self._now)
        self._deleting = Deleting(self._database, self._lists, self._puts, self._writing, self._now)
        self._documents = Documents(
            self._database, self._lists, self._puts, self._writing, lambda: self.clock
        )
        self.sweeper = Sweeper(self._deleting, self._documents, self._now, self._swept)
        """What deletes expired records."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            settings.weaviate,
            context.embedder,
            settings.limits,
            settings.recall,
            reranking=context.reranking,
        )

    def identity(self) -> frozenset[str] | None:
        """The collections, by whatever way they are reached."""
        return self._database.identity

    async def open(self) -> None:
        await self._reranked.open()
        await self._database.open()
        self.sweeper.start()

    async def close(self) -> None:
        await self.sweeper.stop()
        await self._database.close()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is None:
            return await self._listed(wanted, wanted.top_k)
        return [
            replace(memory, score=one.score, explanation=one.explanation)
            for memory, one in await self._ranked.best(wanted)
        ]

    async def _listed(self, wanted: Recall | Page, limit: int) -> list[Memory]:
        now = self._now()
        return await self._lists.memories(
            wanted, limit, milliseconds(now), lambda memory: wanted.has(memory, now)
        )

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found = await self._knowledge.recall(wanted)
        return [replace(record, score=score) for record, score in found]

    async def _get(self, wanted: Get) -> Record | None:
        names = self._database.names
        collection = names.knowledge if wanted.kind == "knowledge" else names.memories
        filters = [equal("key", wanted.record_id), WHOLE]
        if wanted.kind == "knowledge":
            filters.append(equal("owner", KNOWLEDGE))
        elif wanted.user_id is not None:
            filters.append(equal("owner", hashed(wanted.user_id)))
        rows = await self._database.search(
            collection, every(*filters), ("owner", "record", *OF_PUTS), _MOST_OWNERS
        )
        for row in rows:
            record = record_of(row)
            if not is_alive(record, self._now()) or not await self._is_shown(row):
                continue
            if isinstance(record, Memory) and wanted.user_id not in (None, record.user_id):
                continue
            return record
        return None

    async def _is_shown(self, row: Any) -> bool:
        """Whether no put has replaced the object."""
        doc = row.texts.get("doc")
        return doc is None or is_shown(row, await self._puts.heads(row.texts["owner"], [doc]))

    async def _page(self, wanted: Page) -> MemoryPage:
        return wanted.of(await self._listed(wanted, wanted.limit + 1))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        now = self._now()
        found = await self._lists.knowledge(
            wanted, wanted.limit + 1, milliseconds(now), lambda record: wanted.has(record, now)
        )
        return wanted.of(found)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        async for user_id in self._exported_users(wanted):
            async for record in self._lists.of_owner(hashed(user_id)):
                if is_alive(record, self._now()):
                    yield record
        if wanted.knowledge:
            async for record in self._lists.of_owner(KNOWLEDGE):
                if is_alive(record, self._now()):
                    yield record

    async def _exported_users(self, wanted: Export) -> AsyncIterator[str]:
        if wanted.only is not None:
            yield wanted.only
            return
        start: str | None = wanted.start
        while start is not None:
            page = await self._users(Users(start=start, end=wanted.end, limit=_USERS_AT_ONCE))
            for user in page.users:
                yield user.user_id
            last = page.next_cursor
            start = None if last is None else UserCursor.decode(last).next_id

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._writing.once(wanted.records)
        await (self._writing.store if wanted.new else self._writing.merge)(wanted.records)
        return wanted.records

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return wanted.records, await self._documents.put(wanted, self._now())

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._writing.replace(wanted.record, wanted.over)

    async def _delete(self, wanted: Delete) -> int:
        return await self._deleting.delete(wanted)

    async def _forget(self, wanted: Forget) -> int:
        return await self._deleting.forget(wanted)

    async def _users(self, wanted: Users) -> UserPage:
        return user_page(await self._deleting.users(wanted), wanted.limit)

    async def health_check(self) -> DriverHealth:
        return self._reranked.health(await self._state())

    async def _state(self) -> DriverHealth:
        started = perf_counter()
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                await self._database.open()
                wrong, facts = await troubles(self._database)
        except TimeoutError:
            return self._health("unavailable", f"no answer within {_HEALTH_SECONDS:.0f} s")
        except MemoryServiceError as error:
            return self._health("unavailable", error.detail)
        self.sweeper.start()
        latency = round((perf_counter() - started) * 1000, 1)
        status: HealthStatus = "degraded" if wrong else "ok"
        return self._health(status, "; ".join(wrong) or None, latency_ms=latency, **facts)

    def _health(
        self, status: HealthStatus, detail: str | None = None, **facts: Any
    ) -> DriverHealth:
        embedding = self._embedder.facts(is_open=status != "unavailable")
        return DriverHealth(
            driver=self.name, status=status, detail=detail, facts={**facts, "embedding": embedding}
        )
