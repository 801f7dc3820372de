"""Memories and knowledge in PostgreSQL, found by vectors and words together, or by words alone."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from time import perf_counter
from typing import Any, Self
from uuid import UUID

import asyncpg

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.cursor import Cursor, page
from app.core.memory.records import (
    Knowledge,
    Memory,
    MemoryPage,
    Metadata,
    NewKnowledge,
    NewMemory,
    check_id,
    check_recall,
    check_recall_knowledge,
    check_scope,
    check_top_k,
    new_knowledge,
    new_knowledge_records,
    new_memories,
    new_memory,
)
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.knowledge import KnowledgeTable
from app.drivers.pgvector.recall import Recall, explanation
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.upkeep import IndexUpkeep
from app.drivers.pgvector.writing import Writing
from app.embedding import Embedder
from app.errors import MemoryServiceError, PoolExhausted
from app.ranking.runs import parsable
from app.settings import DatabaseSettings, Limits, RecallSettings

_EXPORT_PAGE = 500
_HEALTH_SECONDS = 2.0
_BUSY_SECONDS = 5.0
"""A full pool is busy if it answered somebody that lately, and lost if it did not."""


class PgvectorDriver(BaseMemoryDriver):
    """PostgreSQL 13 or newer with pgvector.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2. With `use_vector=False` it is the share of the query's words that the memory
    has. A batch is one statement.
    """

    name = "pgvector"

    def __init__(
        self,
        settings: DatabaseSettings,
        embedder: Embedder,
        limits: Limits,
        recall: RecallSettings | None = None,
    ) -> None:
        recall = recall or RecallSettings()
        self._embedder = embedder
        self._limits = limits
        self._connections = Connections(settings, embedder, recall.language)
        self._recall = Recall(self._connections, embedder, recall)
        self._writing = Writing(self._connections, embedder, context=recall.context)
        self._knowledge = KnowledgeTable(self._connections, embedder)
        self._upkeep = IndexUpkeep(settings, self._connections)

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(settings.database, context.embedder, settings.limits, settings.recall)

    def identity(self) -> frozenset[str] | None:
        """The database; the instance's own where the role may not ask which one it is."""
        database = self._connections.database
        return database if database or database is None else super().identity()

    async def open(self) -> None:
        await self._connections.open()
        self._upkeep.start()

    async def close(self) -> None:
        await self._upkeep.stop()
        await self._connections.close()

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        check_recall(self._limits, user_id, conversation_id, query, top_k, exclude_tags)
        scope = (user_id, conversation_id, list(exclude_tags or ()))
        scoped = conversation_id is not None
        if query is None:
            rows = await self._fetch(sql.RECALL_NEWEST[scoped], *scope, top_k)
            return [_memory(row) for row in rows]
        if use_vector:
            return [_memory(*best) for best in await self._recall.best(scope, query, top_k)]
        statement, language = sql.RECALL_BY_WORDS[scoped], self._connections.language
        rows = await self._fetch(statement, *scope, top_k, parsable(query), language)
        return [_memory(row, row["score"]) for row in rows]

    async def explain_recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        if query is None or not use_vector:
            return await self.recall(
                user_id, conversation_id, query, top_k, use_vector, exclude_tags
            )
        check_recall(self._limits, user_id, conversation_id, query, top_k, exclude_tags)
        scope = (user_id, conversation_id, list(exclude_tags or ()))
        best = await self._recall.best(scope, query, top_k)
        return [replace(_memory(row, score), explanation=explanation(row)) for row, score in best]

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        check_recall_knowledge(self._limits, query, top_k, category)
        return await self._knowledge.recall(query, top_k, category)

    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> Memory:
        new = NewMemory(
            user_id=user_id,
            content=content,
            conversation_id=conversation_id,
            tags=tags,
            metadata=metadata,
        )
        memory = new_memory(new, self._limits)
        await self._writing.store([memory])
        return memory

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        records = await new_memories(memories, self._limits)
        await self._writing.store(records)
        return records

    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Knowledge:
        new = NewKnowledge(
            content=content, category=category, title=title, doc_id=doc_id, metadata=metadata
        )
        return (await self._keep_knowledge([new_knowledge(new, self._limits)]))[0]

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        return await self._keep_knowledge(await new_knowledge_records(knowledge, self._limits))

    async def _keep_knowledge(self, knowledge: list[Knowledge]) -> list[Knowledge]:
        await self._knowledge.store(knowledge)
        return knowledge

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        memories = sorted(
            (record for record in records if isinstance(record, Memory)), key=Cursor.after
        )
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        if memories:
            await self._writing.store(memories, again=True)
        if knowledge:
            await self._knowledge.store(knowledge, again=True)

    async def owner_of(self, memory_id: str) -> str | None:
        rows = await self._fetch(sql.OWNER, check_id(memory_id))
        return rows[0]["user_id"] if rows else None

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        key = check_id(memory_id)
        if user_id is None:
            return await self._delete(sql.DELETE, key) > 0
        check_scope(self._limits, user_id)
        return await self._delete(sql.DELETE_OF_USER, key, user_id) > 0

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        check_scope(self._limits, user_id)
        rows = await self._fetch(sql.GET, user_id, check_id(memory_id))
        return _memory(rows[0]) if rows else None

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        check_scope(self._limits, user_id, conversation_id)
        check_top_k(limit, self._limits, "limit")
        end = Cursor.decode(cursor) if cursor is not None else (None, None)
        statement = sql.LIST[conversation_id is not None]
        rows = await self._fetch(statement, user_id, conversation_id, [], limit + 1, *end)
        return page([_memory(row) for row in rows], limit)

    async def delete_user(self, user_id: str) -> int:
        check_scope(self._limits, user_id)
        return await self._delete(sql.DELETE_USER, user_id)

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        return await self._knowledge.get(check_id(knowledge_id, "knowledge_id"))

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        return await self._knowledge.delete(check_id(knowledge_id, "knowledge_id"))

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        last_memory = ("", UUID(int=0))
        while rows := await self._fetch(sql.EXPORT_MEMORIES, *last_memory, _EXPORT_PAGE):
            for row in rows:
                yield _memory(row)
            last_memory = (rows[-1]["user_id"], rows[-1]["memory_id"])
        async for record in self._knowledge.export():
            yield record

    async def health_check(self) -> DriverHealth:
        started = perf_counter()
        try:
            await self._answers()
        except (TimeoutError, MemoryServiceError) as error:
            full = self._connections.all_busy or isinstance(error, PoolExhausted)
            busy = full and self._connections.answered_within(_BUSY_SECONDS)
            status: HealthStatus = "degraded" if busy else "unavailable"
            late = f"no answer within {_HEALTH_SECONDS:.0f} s"
            return self._health(status, late if isinstance(error, TimeoutError) else error.detail)
        self._upkeep.start()
        latency = round((perf_counter() - started) * 1000, 1)
        if missing := self._connections.missing:
            return self._health("degraded", missing, latency_ms=latency)
        if stale := self._upkeep.stale:
            detail = f"{stale}: recall of knowledge is slow or less good until it is rebuilt"
            return self._health("degraded", detail, latency_ms=latency)
        return self._health("ok", latency_ms=latency)

    async def _answers(self) -> None:
        """Raise unless requests can be served; TimeoutError without waiting for the cleaning up."""
        probe = asyncio.ensure_future(self._connections.check())
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
        embedding: dict[str, Any] = {"model": self._embedder.name}
        if status != "unavailable":
            embedding |= {
                "engine": self._embedder.engine,
                "dimension": self._embedder.dimension,
                "max_tokens": self._embedder.max_tokens,
            }
        return DriverHealth(
            driver=self.name,
            status=status,
            detail=detail,
            facts={
                **facts,
                **self._connections.facts(),
                **self._upkeep.facts(),
                "embedding": embedding,
            },
        )

    async def _fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._connections.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def _delete(self, statement: str, *arguments: Any) -> int:
        async with self._connections.acquire() as connection:
            status = await connection.execute(statement, *arguments)
        return int(status.rpartition(" ")[2])


def _memory(row: asyncpg.Record, score: float | None = None) -> Memory:
    return Memory(
        memory_id=str(row["memory_id"]),
        user_id=row["user_id"],
        content=row["content"],
        conversation_id=row["conversation_id"],
        tags=row["tags"],
        metadata=json.loads(row["metadata"]),
        created_at=row["created_at"],
        score=score,
    )
