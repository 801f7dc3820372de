"""Memories and knowledge in PostgreSQL, found by vectors and words together, or by words alone."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from time import perf_counter
from typing import Any, Self, cast
from uuid import UUID

from app.core.memory.base import DriverContext, DriverHealth, HealthStatus
from app.core.memory.cursor import Cursor, Place, user_page
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
    UserCount,
    UserPage,
    key_of,
    latest,
    record_id,
    uuid_of,
)
from app.core.memory.reembedding import Reembedding
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Given,
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
from app.drivers.pgvector.by_model import ByModel, Following
from app.drivers.pgvector.changes import OldChanges
from app.drivers.pgvector.coming import ComingModel
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.generations import EmbedderOf, Generations
from app.drivers.pgvector.looking import LookForRecords
from app.drivers.pgvector.reembedding import PgvectorReembedding
from app.drivers.pgvector.rows import memory_of
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql.scope import of_user
from app.drivers.pgvector.sweeper import Sweeper
from app.drivers.pgvector.upkeep import IndexUpkeep
from app.drivers.pgvector.vacuum import Vacuum
from app.embedding import Embedder, Model
from app.errors import Contended, MemoryServiceError, PoolExhausted
from app.pieces import in_pieces
from app.reranking import Reranking
from app.settings import DatabaseSettings, Limits, RecallSettings

_EXPORT_PAGE = 500
FORGOTTEN_AT_ONCE = 2_000
"""Memories that one statement of a forget looks at and deletes, in some 20 ms."""
_LAST_ID = UUID(int=2**128 - 1)
_TRIES = 5
"""How often records are kept once while others store and delete the same ones."""
_HEALTH_SECONDS = 2.0
_BUSY_SECONDS = 5.0
"""A full pool is busy if it answered somebody that lately, and lost if it did not."""


class PgvectorDriver(RecordDriver):
    """PostgreSQL 13 or newer with pgvector.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2. A batch is one statement.
    """

    name = "pgvector"
    explains = True
    weighs_recency = True
    keeps_documents = True

    def __init__(
        self,
        settings: DatabaseSettings,
        embedder: Embedder,
        limits: Limits,
        recall: RecallSettings | None = None,
        reranking: Reranking | None = None,
        embedder_of: EmbedderOf | None = None,
    ) -> None:
        """`embedder_of` gives the models that the records may get while the driver serves."""
        super().__init__(limits)
        recall = recall or RecallSettings()
        check_language(recall.language)
        self._settings, self._recall_settings = settings, recall
        generations = Generations(embedder, embedder_of)
        self.connections = Connections(settings, generations, recall.language)
        """The connections to the database."""
        self._reranked = Reranked(reranking)
        self._vacuum = Vacuum(self.connections)
        self._changes = OldChanges(self.connections)
        self._look = LookForRecords(self.connections)
        self._coming = ComingModel(self.connections)
        self._following = Following(self.connections, recall, self._now, self._vacuum.wrote)
        self.sweeper = Sweeper(self.connections, self._now, self._swept)
        """What deletes expired records."""
        self._upkeep = IndexUpkeep(settings, self.connections)

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            settings.database,
            context.embedder,
            settings.limits,
            settings.recall,
            reranking=context.reranking,
            embedder_of=context.embedder_of,
        )

    def identity(self) -> frozenset[str] | None:
        """The database; the instance's own where the role may not ask which one it is."""
        database = self.connections.database
        return database if database or database is None else super().identity()

    async def open(self) -> None:
        await self._reranked.open()
        await self.connections.open()
        self._upkeep.start()
        self._vacuum.start()
        self._changes.start()
        self._look.start()
        self._coming.start()
        self.sweeper.start()

    async def close(self) -> None:
        await self._following.stop()
        await self.sweeper.stop()
        await self._coming.stop()
        await self._look.stop()
        await self._changes.stop()
        await self._vacuum.stop()
        await self._upkeep.stop()
        await self.connections.close()

    def reembedding(self, embedder: Embedder) -> Reembedding:
        return PgvectorReembedding(self._settings, embedder, self._recall_settings, self._now)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is not None:
            best = await self._following.by(lambda parts: parts.ranked.best(wanted))
            return await in_pieces(lambda each: memory_of(*each), best)
        return await self._newest(wanted, wanted.top_k)

    async def _newest(
        self, wanted: Recall | Page, limit: int, after: Place | None = None
    ) -> list[Memory]:
        where = of_user(wanted.user_id, wanted.conversation_id, wanted.filter)
        where.alive(self._now())
        statement = sql.newest(where, limit, after)
        rows = await self.connections.fetch(statement, *where.arguments)
        return await in_pieces(memory_of, rows)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        return await self._following.by(lambda parts: parts.knowledge.recall(wanted))

    async def _get(self, wanted: Get) -> Record | None:
        if wanted.kind == "knowledge":
            return await self._following.parts.knowledge.get(wanted.record_id)
        statement = sql.GET if wanted.user_id is None else sql.GET_OF_USER
        user = () if wanted.user_id is None else (wanted.user_id,)
        rows = await self.connections.fetch(statement, wanted.record_id, self._now(), *user)
        return memory_of(rows[0]) if rows else None

    async def _page(self, wanted: Page) -> MemoryPage:
        if wanted.doc_id is not None:
            return wanted.of(await self._in_document(wanted, wanted.doc_id))
        return wanted.of(await self._newest(wanted, wanted.limit + 1, wanted.after))

    async def _in_document(self, wanted: Page, doc_id: str) -> list[Memory]:
        where = of_user(wanted.user_id, wanted.conversation_id, wanted.filter)
        where.of_document(doc_id)
        where.alive(self.clock.now())
        statement = sql.of_document(where, wanted.limit + 1, wanted.after)
        return await in_pieces(memory_of, await self.connections.fetch(statement, *where.arguments))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        return await self._following.parts.knowledge.page(wanted)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        first, end = (wanted.start, UUID(int=0)), () if wanted.end is None else (wanted.end,)
        statement = sql.export_memories(first=True, until_end=bool(end))
        while rows := await self.connections.fetch(
            statement, *first, _EXPORT_PAGE, self._now(), *end
        ):
            for memory in await in_pieces(memory_of, rows):
                yield memory
            first = (rows[-1]["user_id"], rows[-1]["memory_id"])
            statement = sql.export_memories(first=False, until_end=bool(end))
        if wanted.knowledge:
            async for record in self._following.parts.knowledge.export():
                yield record

    async def _model(self) -> Model | None:
        generation = self.connections.generations.now
        return generation.model or await Model.of(generation.embedder)

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        memories = [record for record in records if isinstance(record, Memory)]
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        by = self._following.by
        own = iter(await by(lambda parts: parts.writing.derived(memories)) if memories else ())
        others = iter(
            await by(lambda parts: parts.knowledge.derived(knowledge)) if knowledge else ()
        )
        return [next(own if isinstance(record, Memory) else others) for record in records]

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        memories = [(user, one) for user, one in keys if user is not None]
        knowledge = [one for user, one in keys if user is None]
        gone: set[Key] = set()
        if memories:
            users, ids = zip(*memories, strict=True)
            found = await self._following.parts.writing.gone(users, ids)
            gone |= {memories[place] for place in found}
        if knowledge:
            found = await self._following.parts.knowledge.gone(knowledge)
            gone |= {(None, knowledge[place]) for place in found}
        return gone

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._keep_once(wanted.records)
        records: Iterable[Record] = wanted.records
        if not wanted.new:  # one statement can't change a row twice
            records = latest(records, _row_of).values()
        memories = [record for record in records if isinstance(record, Memory)]
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        by = self._following.by

        def own(parts: ByModel) -> Given:
            return wanted.given(parts.generation.model)

        if memories and wanted.new:
            await by(lambda parts: parts.writing.store(memories))
        elif memories:
            memories.sort(key=Cursor.after)
            await by(lambda parts: parts.writing.merge(memories, own(parts)))
        if knowledge and wanted.new:
            await by(lambda parts: parts.knowledge.store(knowledge))
        elif knowledge:
            knowledge.sort(key=record_id)
            await by(lambda parts: parts.knowledge.merge(knowledge, own(parts)))
        return wanted.records

    async def _keep_once(self, records: Sequence[Kept]) -> Sequence[Kept]:
        for _ in range(_TRIES - 1):
            with suppress(Contended):
                return await self._kept_once(records)
        return await self._kept_once(records)

    async def _kept_once(self, records: Sequence[Kept]) -> Sequence[Kept]:
        memories = [record for record in records if isinstance(record, Memory)]
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        now = self.clock.now()
        if knowledge:
            kept = await self._following.by(lambda parts: parts.knowledge.once(knowledge, now))
            return cast(Sequence[Kept], kept)
        there = await self._following.by(lambda parts: parts.writing.once(memories, now))
        rows = [there.get((memory.user_id, uuid_of(memory.memory_id))) for memory in memories]
        answer = [
            memory if row is None else replace(memory_of(row), repeated=True)
            for memory, row in zip(memories, rows, strict=True)
        ]
        return cast(Sequence[Kept], answer)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        records: Sequence[Record] = wanted.records
        if wanted.user_id is None:
            knowledge = [record for record in records if isinstance(record, Knowledge)]
            of_all = Put(wanted.doc_id, knowledge, before=wanted.before)
            return wanted.records, await self._following.by(
                lambda parts: parts.knowledge.put(of_all)
            )
        memories = [record for record in records if isinstance(record, Memory)]
        own = Put(wanted.doc_id, memories, wanted.user_id, wanted.before)
        return wanted.records, await self._following.by(lambda parts: parts.writing.put(own))

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        record: Record = wanted.record
        by = self._following.by
        if isinstance(record, Memory):
            return await by(lambda parts: parts.writing.replace(record, wanted.over))
        return await by(lambda parts: parts.knowledge.replace(record, wanted.over))

    async def _delete(self, wanted: Delete) -> int:
        if wanted.kind == "knowledge":
            return await self._following.parts.knowledge.delete(wanted.ids)
        statement = sql.DELETE if wanted.user_id is None else sql.DELETE_OF_USER
        user = () if wanted.user_id is None else (wanted.user_id,)
        [row] = await self.connections.fetch(statement, self._now(), wanted.ids, *user)
        return int(row["alive"])

    async def _forget(self, wanted: Forget) -> int:
        """By id, in pieces that each have the statement's deadline."""
        user_id, before = wanted.user_id, wanted.before
        count, start, more = 0, 0, True
        while more:
            [row] = await self.connections.fetch(
                sql.FORGET, self._now(), user_id, before, UUID(int=start), FORGOTTEN_AT_ONCE
            )
            count += row["alive"]
            wanted.on_piece()
            more = row["seen"] == FORGOTTEN_AT_ONCE and row["last"] != _LAST_ID
            start = row["last"].int + 1 if more else 0
        self._following.parts.ranked.residents.drop(user_id)
        return count

    async def _users(self, wanted: Users) -> UserPage:
        rows = await self.connections.fetch(
            sql.USERS, self._now(), wanted.start, wanted.end, wanted.limit + 1
        )
        return user_page([UserCount(*row) for row in rows], wanted.limit)

    async def health_check(self) -> DriverHealth:
        return self._reranked.health(await self._state())

    async def _state(self) -> DriverHealth:
        started = perf_counter()
        try:
            await self._answers()
        except (TimeoutError, MemoryServiceError) as error:
            full = self.connections.all_busy or isinstance(error, PoolExhausted)
            busy = full and self.connections.answered_within(_BUSY_SECONDS)
            status: HealthStatus = "degraded" if busy else "unavailable"
            late = f"no answer within {_HEALTH_SECONDS:.0f} s"
            return self._health(status, late if isinstance(error, TimeoutError) else error.detail)
        self._upkeep.start()
        self._vacuum.start()
        self._changes.start()
        self._look.start()
        self._coming.start()
        self.sweeper.start()
        latency = round((perf_counter() - started) * 1000, 1)
        if wrong := self.connections.read_only or self.connections.missing:
            return self._health("degraded", wrong, latency_ms=latency)
        if stale := self._upkeep.stale:
            detail = f"{stale}: recall of knowledge is slow or less good until it is rebuilt"
            return self._health("degraded", detail, latency_ms=latency)
        return self._health("ok", latency_ms=latency)

    async def _answers(self) -> None:
        """Raise unless requests can be served; TimeoutError without waiting for the cleaning up."""
        probe = asyncio.ensure_future(self.connections.check())
        probe.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            done, _ = await asyncio.wait({probe}, timeout=_HEALTH_SECONDS)
        finally:
            probe.cancel()
        if not done:
            raise TimeoutError
        probe.result()

    def _health(
        self, status: HealthStatus, detail: str | None = None, **facts: Any
    ) -> DriverHealth:
        embedder = self.connections.generations.now.embedder
        embedding = embedder.facts(is_open=status != "unavailable")
        return DriverHealth(
            driver=self.name,
            status=status,
            detail=detail,
            facts={
                **facts,
                **self.connections.facts(),
                **self._upkeep.facts(),
                **self._following.facts(),
                **self._coming.facts(),
                "embedding": embedding,
            },
        )


def _row_of(record: Record) -> tuple[str | None, UUID]:
    """What its row has as its key: an id in capitals is the same id."""
    user_id, one = key_of(record)
    return user_id, uuid_of(one)
