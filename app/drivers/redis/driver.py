"""Memories and knowledge in Redis: memories are ranked by the service, knowledge by an index."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Self
from uuid import UUID

from app.core.memory.base import DriverContext, DriverHealth, HealthStatus
from app.core.memory.cursor import user_page
from app.core.memory.derived import Derived
from app.core.memory.querying import check_language
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Key,
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
from app.drivers.redis.database import Database
from app.drivers.redis.health import troubles
from app.drivers.redis.knowledge import KnowledgeSearch
from app.drivers.redis.layout import KNOWLEDGE, NEVER, decoded, digits, hashed
from app.drivers.redis.reading import Lists
from app.drivers.redis.recall import RankedRecall
from app.drivers.redis.scripts import DELETE, FIND, FORGET
from app.drivers.redis.sweeper import Sweeper
from app.drivers.redis.writing import Writing
from app.embedding import Embedder, Model
from app.errors import MemoryServiceError, PoolExhausted
from app.reranking import Reranking
from app.settings import Limits, RecallSettings, RedisSettings

_HEALTH_SECONDS = 2.0
_BUSY_SECONDS = 5.0
"""A full pool is busy if Redis has answered somebody that lately, and lost if it has not."""
_PIECE = 500
"""Memories that are deleted in one step: others wait meanwhile."""


class RedisDriver(RecordDriver):
    """Redis 8, or an older one with the search module 2.10 or newer.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2. A batch is one script.
    """

    name = "redis"
    explains = True
    weighs_recency = True
    keeps_documents = True

    def __init__(
        self,
        settings: RedisSettings,
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
        self._lists = Lists(self._database)
        self._ranked = RankedRecall(self._database, embedder, recall, self._now)
        self._knowledge = KnowledgeSearch(self._database, embedder, self._now)
        self._writing = Writing(self._database, embedder)
        self.sweeper = Sweeper(self._database, self._now, self._swept)
        """What deletes expired records."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            settings.redis,
            context.embedder,
            settings.limits,
            settings.recall,
            reranking=context.reranking,
        )

    def identity(self) -> frozenset[str] | None:
        """The database, by whatever way it is reached."""
        return self._database.identity

    async def open(self) -> None:
        await self._reranked.open()
        await self._database.open()
        self.sweeper.start()

    async def close(self) -> None:
        await self.sweeper.stop()
        self._ranked.residents.clear()
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
        return await self._lists.memories(wanted, limit, lambda memory: wanted.has(memory, now))

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found = await self._knowledge.recall(wanted)
        return [replace(record, score=score) for record, score in found]

    async def _get(self, wanted: Get) -> Record | None:
        one = UUID(wanted.record_id).bytes
        if wanted.kind == "memory" and wanted.user_id is None:
            value = await self._database.run(FIND, one)
        else:
            owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
            [value] = await self._database.ask(("HGET", self._database.names.of("r", owner), one))
        record = None if value is None else decoded(value)
        if record is None or not is_alive(record, self._now()):
            return None
        if isinstance(record, Memory) and wanted.user_id not in (None, record.user_id):
            return None
        return record

    async def _page(self, wanted: Page) -> MemoryPage:
        return wanted.of(await self._listed(wanted, wanted.limit + 1))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        now, limit = self._now(), wanted.limit + 1
        found = await self._lists.knowledge(wanted, limit, lambda record: wanted.has(record, now))
        return wanted.of(found)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        async for record in self._lists.all(wanted):
            if is_alive(record, self._now()):
                yield record

    async def _model(self) -> Model | None:
        return await Model.of(self._embedder)

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        return await self._writing.derived(records)

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        return await self._writing.gone(keys, self._now())

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._writing.once(wanted.records, self._now())
        if wanted.new:
            await self._writing.store(wanted.records)
        else:
            await self._writing.merge(wanted.records, wanted.given())
        return wanted.records

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return wanted.records, await self._writing.put(wanted, self._now())

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._writing.replace(wanted.record, wanted.over)

    async def _delete(self, wanted: Delete) -> int:
        owner = "" if wanted.user_id is None else hashed(wanted.user_id)
        if wanted.kind == "knowledge":
            owner = KNOWLEDGE
        ids = [UUID(each).bytes for each in wanted.ids]
        count: int = await self._database.run(DELETE, digits(self._now()), owner, *ids)
        return count

    async def _forget(self, wanted: Forget) -> int:
        before = NEVER if wanted.before is None else digits(wanted.before)
        owner, count, first = hashed(wanted.user_id), 0, b"-"
        piece: int
        while True:
            now = digits(self._now())
            piece, last = await self._database.run(FORGET, now, owner, before, first, _PIECE)
            count += piece
            wanted.on_piece()
            if not last:
                self._ranked.residents.drop(owner)
                return count
            first = b"(" + last

    async def _users(self, wanted: Users) -> UserPage:
        return user_page(await self._lists.users(wanted, self._now()), wanted.limit)

    async def health_check(self) -> DriverHealth:
        return self._reranked.health(await self._state())

    async def _state(self) -> DriverHealth:
        started = perf_counter()
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                wrong = await troubles(self._database)
        except (PoolExhausted, TimeoutError):
            if self._database.server.is_busy(_BUSY_SECONDS):
                return self._health("degraded", PoolExhausted().detail)
            return self._health("unavailable", f"no answer within {_HEALTH_SECONDS:.0f} s")
        except MemoryServiceError as error:
            return self._health("unavailable", error.detail)
        self.sweeper.start()
        latency = round((perf_counter() - started) * 1000, 1)
        status: HealthStatus = "degraded" if wrong else "ok"
        return self._health(status, "; ".join(wrong) or None, latency_ms=latency)

    def _health(
        self, status: HealthStatus, detail: str | None = None, **facts: Any
    ) -> DriverHealth:
        embedding = self._embedder.facts(is_open=status != "unavailable")
        return DriverHealth(
            driver=self.name,
            status=status,
            detail=detail,
            facts={**facts, **self._ranked.residents.facts(), "embedding": embedding},
        )
