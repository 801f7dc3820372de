"""Knowledge in PostgreSQL: stored, searched, read and deleted."""

import json
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import asyncpg

from app.core.memory.checks import dump_json
from app.core.memory.records import Knowledge
from app.core.memory.requests import RecallKnowledge
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import knowledge as sql
from app.embedding import Embedder
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

    async def store(self, knowledge: Sequence[Knowledge], *, again: bool = False) -> None:
        """Keep all or none; with `again`, those that are there already stay."""
        vectors = await self._embedder.embed([record.content for record in knowledge])
        rows = [
            (
                record.knowledge_id,
                record.category,
                record.content,
                record.title,
                record.doc_id,
                dump_json(record.metadata),
                record.created_at,
                vector,
            )
            for record, vector in zip(knowledge, vectors, strict=True)
        ]
        async with self._connections.acquire() as connection:
            await connection.executemany(sql.IMPORT if again else sql.STORE, rows)

    async def get(self, knowledge_id: str) -> Knowledge | None:
        rows = await self._connections.fetch(sql.GET, knowledge_id)
        return _knowledge(rows[0]) if rows else None

    async def delete(self, knowledge_id: str) -> bool:
        """Whether it was there."""
        return await self._connections.delete(sql.DELETE, knowledge_id) > 0

    async def export(self) -> AsyncIterator[Knowledge]:
        """Every record, in pages by id."""
        last = UUID(int=0)
        while rows := await self._connections.fetch(sql.EXPORT, last, _EXPORT_PAGE):
            for knowledge in await in_pieces(_knowledge, rows):
                yield knowledge
            last = rows[-1]["knowledge_id"]


def _knowledge(row: asyncpg.Record) -> Knowledge:
    return Knowledge(
        knowledge_id=str(row["knowledge_id"]),
        content=row["content"],
        category=row["category"],
        title=row["title"],
        doc_id=row["doc_id"],
        metadata=json.loads(row["metadata"]),
        created_at=row["created_at"],
        score=row["score"],
    )
