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
from app.core.memory.reembedding import Reembedding
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
from app.drivers.redis.current import Current, Generation
from app.drivers.redis.database import Database
from app.drivers.redis.embedders import EmbedderOf, Embedders
from app.drivers.redis.following import Following
from app.drivers.redis.health import troubles
from app.drivers.redis.knowledge import KnowledgeSearch
from app.drivers.redis.layout import KNOWLEDGE, NEVER, decoded, digits, hashed
from app.drivers.redis.lists import Lists
from app.drivers.redis.opening import Opening
from app.drivers.redis.recall import RankedRecall
from app.drivers.redis.reembedding import RedisReembedding
from app.drivers.redis.residents import Residents
from app.drivers.redis.scripts import DELETE, FIND, FORGET
from app.drivers.redis.server import Server
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
        embedder_of: EmbedderOf | None = None,
    ) -> None:
        """`embedder_of` gives the embedder of another model that the database's vectors are of."""
        super().__init__(limits)
        recall = recall or RecallSettings()
        check_language(recall.language)
        self._embedder = embedder
        self._reranked = Reranked(reranking)
        self._settings = settings
        self._recall_settings = recall
        self._residents = Residents(recall.resident_mb * 1_000_000)
        self._server = Server(settings)
        embedders = Embedders(embedder, embedder_of)
        opening = Opening(settings, self._server, embedders, recall.language)
        self._current = Current(opening, self._generation)
        self._lists = Lists(self._current)
        self._following = Following(opening)
        self.sweeper = Sweeper(self._current, self._now, self._swept)
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
            embedder_of=context.embedder_of,
        )

    def identity(self) -> frozenset[str] | None:
        """The database, by whatever way it is reached."""
        return self._current.identity

    def _generation(self, database: Database) -> Generation:
        return Generation(
            database,
            RankedRecall(database, self._recall_settings, self._now, self._residents),
            KnowledgeSearch(database, self._now),
            Writing(database),
        )

    async def open(self) -> None:
        await self._reranked.open()
        await self._current.open()
        self.sweeper.start()
        self._following.start()

    async def close(self) -> None:
        await self.sweeper.stop()
        await self._following.stop()
        self._residents.clear()
        await self._current.close()

    def reembedding(self, embedder: Embedder) -> Reembedding:
        language = self._recall_settings.language
        opening = Opening(
            self._settings, Server(self._settings), Embedders(embedder, None), language
        )
        return RedisReembedding(self._settings, opening)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is None:
            return await self._listed(wanted, wanted.top_k)
        found = await self._current.do(lambda there: there.ranked.best(wanted))
        return [
            replace(memory, score=one.score, explanation=one.explanation) for memory, one in found
        ]

    async def _listed(self, wanted: Recall | Page, limit: int) -> list[Memory]:
        now = self._now()
        return await self._lists.memories(wanted, limit, lambda memory: wanted.has(memory, now))

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found = await self._current.do(lambda there: there.knowledge.recall(wanted))
        return [replace(record, score=score) for record, score in found]

    async def _get(self, wanted: Get) -> Record | None:
        one = UUID(wanted.record_id).bytes

        async def find(there: Generation) -> bytes | None:
            database = there.database
            value: bytes | None
            if wanted.kind == "memory" and wanted.user_id is None:
                value = await database.run(FIND, one)
            else:
                owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
                [value] = await database.ask(("HGET", database.names.of("r", owner), one))
            return value

        value = await self._current.do(find)
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
        return (self._current.known or await self._current.open()).database.model

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        return await self._current.do(lambda there: there.writing.derived(records))

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        return await self._current.do(lambda there: there.writing.gone(keys, self._now()))

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        return await self._current.do(lambda there: there.writing.keep(wanted, self._now()))

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        put = await self._current.do(lambda there: there.writing.put(wanted, self._now()))
        return wanted.records, put

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._current.do(
            lambda there: there.writing.replace(wanted.record, wanted.over)
        )

    async def _delete(self, wanted: Delete) -> int:
        owner = "" if wanted.user_id is None else hashed(wanted.user_id)
        if wanted.kind == "knowledge":
            owner = KNOWLEDGE
        ids = [UUID(each).bytes for each in wanted.ids]

        async def delete(there: Generation) -> int:
            count: int = await there.database.run(DELETE, digits(self._now()), owner, *ids)
            return count

        return await self._current.do(delete)

    async def _forget(self, wanted: Forget) -> int:
        before = NEVER if wanted.before is None else digits(wanted.before)
        owner, count, first = hashed(wanted.user_id), 0, b"-"

        async def forget(there: Generation) -> tuple[int, bytes]:
            now = digits(self._now())
            piece, last = await there.database.run(FORGET, now, owner, before, first, _PIECE)
            return piece, last

        while True:
            piece, last = await self._current.do(forget)
            count += piece
            wanted.on_piece()
            if not last:
                self._residents.drop(owner)
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
                wrong = await self._current.do(lambda there: troubles(there.database))
                facts = await self._following.facts()
        except (PoolExhausted, TimeoutError):
            if self._server.is_busy(_BUSY_SECONDS):
                return self._health("degraded", PoolExhausted().detail)
            return self._health("unavailable", f"no answer within {_HEALTH_SECONDS:.0f} s")
        except MemoryServiceError as error:
            return self._health("unavailable", error.detail)
        self.sweeper.start()
        self._following.start()
        latency = round((perf_counter() - started) * 1000, 1)
        status: HealthStatus = "degraded" if wrong else "ok"
        return self._health(status, "; ".join(wrong) or None, latency_ms=latency, **facts)

    def _health(
        self, status: HealthStatus, detail: str | None = None, **facts: Any
    ) -> DriverHealth:
        there = self._current.known
        embedder = self._embedder if there is None else there.database.embedder
        embedding = embedder.facts(is_open=status != "unavailable")
        return DriverHealth(
            driver=self.name,
            status=status,
            detail=detail,
            facts={**facts, **self._residents.facts(), "embedding": embedding},
        )
