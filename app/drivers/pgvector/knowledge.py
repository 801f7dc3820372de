"""Knowledge in PostgreSQL: stored, searched, read and deleted."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np

from app.core.memory.checks import dump_json
from app.core.memory.records import Knowledge
from app.core.memory.requests import RecallKnowledge
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import knowledge as sql
from app.embedding import Embedder, Vector
from app.pieces import in_pieces

_EXPORT_PAGE = 500


class KnowledgeTable:
    """The table of the knowledge. Its arguments are checked already."""

    def __init__(self, connections: Connections, embedder: Embedder) -> None:
        self._connections = connections
        self._embedder = embedder

    async def recall(self, wanted: RecallKnowledge) -> list[Knowledge]:
        """The best for the query: exact in small numbers of rows, else nearly so."""
        vector = await self._embedder.embed_query(wanted.query)
        searches = sql.searches(self._embedder.dimension)
        if wanted.category is None:
            rows = await self._connections.fetch(searches.everything, vector, wanted.top_k)
        else:
            rows = await self._connections.fetch(
                searches.category, vector, wanted.top_k, wanted.category
            )
        return await in_pieces(_knowledge, rows)

    async def store(self, knowledge: Sequence[Knowledge]) -> None:
        """Insert what is new, all or none."""
        await self._write(sql.STORE, await self._rows(knowledge, {}))

    async def merge(self, knowledge: Sequence[Knowledge]) -> None:
        """Keep what is not there, or only in an older version. No id comes twice.

        It comes in the order of its ids, so that two writers never deadlock.
        """
        there = await self._there(knowledge)
        wanted = [record for record in knowledge if not _is_kept(record, there)]
        if wanted:
            await self._write(sql.MERGE, await self._rows(wanted, there))

    async def replace(self, record: Knowledge, over: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        there = await self._there([record])
        found = there.get(UUID(record.knowledge_id))
        if found is None or found["updated_at"] != over:
            return False
        [row] = await self._rows([record], there)
        return await self._connections.change(sql.REPLACE, *row, over) > 0

    async def _write(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        async with self._connections.acquire() as connection:
            await connection.executemany(statement, rows)

    async def _there(self, knowledge: Sequence[Knowledge]) -> Mapping[UUID, asyncpg.Record]:
        """What is kept under the ids, with the vectors of what is older than the records are."""
        ids = [record.knowledge_id for record in knowledge]
        versions = [record.updated_at for record in knowledge]
        rows = await self._connections.fetch(sql.THERE, ids, versions)
        return {row["knowledge_id"]: row for row in rows}

    async def _rows(
        self, knowledge: Sequence[Knowledge], there: Mapping[UUID, asyncpg.Record]
    ) -> list[tuple[Any, ...]]:
        """The arguments of the statement that keeps each of the records."""
        vectors = await self._vectors(knowledge, there)
        return [
            (
                record.knowledge_id,
                record.category,
                record.content,
                record.title,
                record.doc_id,
                dump_json(record.metadata),
                record.created_at,
                record.updated_at,
                vectors[place],
            )
            for place, record in enumerate(knowledge)
        ]

    async def _vectors(
        self, knowledge: Sequence[Knowledge], there: Mapping[UUID, asyncpg.Record]
    ) -> dict[int, Vector]:
        """The vectors by place. A content that has not changed keeps the vector of its row."""
        vectors: dict[int, Vector] = {}
        for place, record in enumerate(knowledge):
            row = there.get(UUID(record.knowledge_id)) if there else None
            if (
                row is not None
                and row["embedding"] is not None
                and row["content"] == record.content
            ):
                vectors[place] = np.asarray(row["embedding"].to_numpy(), np.float32)
        changed = [place for place in range(len(knowledge)) if place not in vectors]
        if changed:
            made = await self._embedder.embed([knowledge[place].content for place in changed])
            vectors |= zip(changed, made, strict=True)
        return vectors

    async def get(self, knowledge_id: str) -> Knowledge | None:
        rows = await self._connections.fetch(sql.GET, knowledge_id)
        return _knowledge(rows[0]) if rows else None

    async def delete(self, knowledge_id: str) -> bool:
        """Whether it was there."""
        return await self._connections.change(sql.DELETE, knowledge_id) > 0

    async def export(self) -> AsyncIterator[Knowledge]:
        """Every record, in pages by id."""
        last = UUID(int=0)
        while rows := await self._connections.fetch(sql.EXPORT, last, _EXPORT_PAGE):
            for knowledge in await in_pieces(_knowledge, rows):
                yield knowledge
            last = rows[-1]["knowledge_id"]


def _is_kept(record: Knowledge, there: Mapping[UUID, asyncpg.Record]) -> bool:
    row = there.get(UUID(record.knowledge_id))
    return row is not None and row["updated_at"] >= record.updated_at


def _knowledge(row: asyncpg.Record) -> Knowledge:
    return Knowledge(
        knowledge_id=str(row["knowledge_id"]),
        content=row["content"],
        category=row["category"],
        title=row["title"],
        doc_id=row["doc_id"],
        metadata=json.loads(row["metadata"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        score=row["score"],
    )
