"""Knowledge in PostgreSQL: stored, searched, read and deleted."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from pgvector import Vector as PgVector
from pydantic_core import to_json

from app.core.memory.derived import Derived
from app.core.memory.once import repeated
from app.core.memory.records import Knowledge, KnowledgePage, record_id, version_of
from app.core.memory.requests import Given, PageKnowledge, Put, RecallKnowledge
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.derived import derived_in
from app.drivers.pgvector.documents import clear
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.rows import knowledge_of
from app.drivers.pgvector.sql import knowledge as sql
from app.drivers.pgvector.sql import knowledge_windows as windows
from app.drivers.pgvector.sql.knowledge import Search
from app.embedding import Vector
from app.errors import Contended
from app.pieces import in_pieces

_EXPORT_PAGE = 500
_LAST = 2**128 - 1


class KnowledgeTable:
    """The table of the knowledge. Its arguments are checked already."""

    def __init__(
        self, connections: Connections, generation: Generation, now: Callable[[], datetime]
    ) -> None:
        """`now` is the driver's clock."""
        self._now = now
        self._connections = connections
        self._generation = generation
        self._has_windows = False
        """Whether there were texts with several vectors at the last search."""

    async def recall(self, wanted: RecallKnowledge) -> list[Knowledge]:
        """The best for the query: exact in small numbers of rows, else nearly so.

        Each counts by the nearest two of the query's windows and its own.
        """
        generation = self._generation
        question = await generation.embedder.embed_question(wanted.query)
        asked, number = (wanted, self._now(), generation.dimension), generation.number
        ways = (
            sql.search(*asked, generation=number),
            windows.search(*asked, generation=number),
        )
        found: dict[UUID, asyncpg.Record] = {}
        for row in await self._found(question, wanted.top_k, *ways):
            there = found.get(row["knowledge_id"])
            if there is None or there["score"] < row["score"]:
                found[row["knowledge_id"]] = row
        best = sorted(found.values(), key=_score_and_age, reverse=True)[: wanted.top_k]
        return await in_pieces(knowledge_of, best)

    async def _found(
        self, question: Vector, top_k: int, first: Search, others: Search
    ) -> list[asyncpg.Record]:
        """The best by their first vectors, and by their others, where there are any.

        Several searches see one moment: a document is there as one put left it.
        """
        async with self._connections.acquire() as connection:
            if len(question) == 1 and not self._has_windows:
                rows = await _searched(connection, first, question[0], top_k)
                if not _have_windows(rows):
                    return rows
            found: list[asyncpg.Record] = []
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                for vector in question:
                    rows = await _searched(connection, first, vector, top_k)
                    self._has_windows = _have_windows(rows)
                    if self._has_windows:
                        rows += await _searched(connection, others, vector, top_k)
                    found += rows
            return found

    async def store(self, knowledge: Sequence[Knowledge]) -> None:
        """Insert what is new, all or none."""
        vectors = await self._embedded(knowledge)
        rows = self._rows(knowledge, vectors)
        async with self._connections.acquire() as connection:
            if all(len(own) == 1 for own in vectors):
                await connection.executemany(sql.STORE, rows)
                return
            async with connection.transaction():
                await connection.executemany(sql.STORE, rows)
                await connection.execute(windows.STORE, *_others(knowledge, vectors))

    async def merge(self, knowledge: Sequence[Knowledge], given: Given) -> None:
        """Keep what is not there, or only in an older version. No id comes twice.

        It comes in the order of its ids, so that two writers never deadlock.
        """
        there = await self._there(knowledge)
        wanted = [record for record in knowledge if not _is_kept(record, there)]
        if not wanted:
            return
        # Before the statement others may change what is there: whatever windows there are then go.
        short = {key: row for key, row in there.items() if not row["has_windows"]}
        vectors = await self._embedded(wanted, short, given)
        async with self._connections.acquire() as connection, connection.transaction():
            await self._merge(connection, wanted, vectors)

    async def put(self, wanted: Put[Knowledge]) -> int:
        """Replace a document; how many records that had not expired have given way."""
        vectors = await self._embedded(wanted.records)
        async with self._connections.acquire() as connection, connection.transaction():
            cleared = await clear(connection, wanted, self._now())
            if wanted.records and not cleared.later:
                await self._merge(connection, wanted.records, vectors)
        return cleared.alive

    async def page(self, wanted: PageKnowledge) -> KnowledgePage:
        """A page of the list."""
        statement, arguments = sql.page(wanted, self._now())
        rows = await self._connections.fetch(statement, *arguments)
        return wanted.of(await in_pieces(knowledge_of, rows))

    async def once(self, knowledge: Sequence[Knowledge], now: datetime) -> list[Knowledge]:
        """Keep those under whose ids nothing is at that moment; all of them as they are there.

        Keeps all of them or none: raises `Conflict` with the place of one under whose id another
        request is, and `Contended` where others delete what was there. No id comes twice.
        """
        async with self._connections.acquire() as connection:
            there = await _alive(connection, knowledge, now)
        new = [record for record in knowledge if UUID(record.knowledge_id) not in there]
        if new:
            new.sort(key=record_id)  # so two writers never deadlock
            vectors = await self._embedded(new)
            rows = [(*row, now) for row in self._rows(new, vectors)]
            async with self._connections.acquire() as connection, connection.transaction():
                made = await connection.fetchmany(sql.ONCE + sql.RETURNING, rows)
                await _keep_windows(connection, new, vectors)
                if len(made) < len(new):
                    there = await _alive(connection, knowledge, now)
                for row in made:
                    there.pop(row["knowledge_id"], None)
                if len(there) + len(made) < len(knowledge):
                    raise Contended
        return [there.get(UUID(record.knowledge_id), record) for record in knowledge]

    async def replace(self, record: Knowledge, over: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        there = await self._there([record])
        found = there.get(UUID(record.knowledge_id))
        if found is None or found["updated_at"] != over:
            return False
        if over == record.updated_at:  # it was made before, and only its answer was lost
            return True
        vectors = await self._embedded([record], there)
        [row] = self._rows([record], vectors)
        if len(vectors[0]) == 1 and not found["has_windows"]:
            return await self._connections.change(sql.REPLACE, *row, over) > 0
        async with self._connections.acquire() as connection, connection.transaction():
            kept = await connection.fetch(sql.REPLACE + sql.RETURNING, *row, over)
            if found["content"] == record.content:
                await connection.execute(windows.MOVE, record.knowledge_id, record.category)
            else:
                await _keep_windows(connection, [record], vectors)
        return bool(kept)

    async def _there(self, knowledge: Sequence[Knowledge]) -> Mapping[UUID, asyncpg.Record]:
        """What is kept under the ids, with the vectors of what is older than the records are."""
        ids = [record.knowledge_id for record in knowledge]
        versions = [record.updated_at for record in knowledge]
        rows = await self._connections.fetch(sql.THERE, ids, versions)
        return {row["knowledge_id"]: row for row in rows}

    async def _embedded(
        self,
        knowledge: Sequence[Knowledge],
        there: Mapping[UUID, asyncpg.Record] | None = None,
        given: Given | None = None,
    ) -> list[Vector]:
        """The vectors of each record's windows, shape (windows, dimension).

        A content that is `there` keeps the vector of its row, and the windows that it has. What is
        `given` is not made.
        """
        versions = [version_of(record) for record in knowledge]
        vectors = {
            place: given[one].vectors
            for place, one in enumerate(versions)
            if given and one in given
        }
        vectors |= {
            place: np.asarray(row["embedding"].to_numpy(), np.float32)[np.newaxis]
            for place, record in enumerate(knowledge)
            if (row := there.get(UUID(record.knowledge_id)) if there else None) is not None
            and row["embedding"] is not None
            and row["content"] == record.content
        }
        changed = [place for place in range(len(knowledge)) if place not in vectors]
        if changed:
            texts = [(knowledge[place].content, "") for place in changed]
            vectors |= zip(changed, await self._generation.embedder.embed_texts(texts), strict=True)
        return [vectors[place] for place in range(len(knowledge))]

    def _rows(
        self, knowledge: Sequence[Knowledge], vectors: Sequence[Vector]
    ) -> list[tuple[Any, ...]]:
        """The arguments of the statement that keeps each of the records."""
        return [
            (
                record.knowledge_id,
                record.category,
                record.content,
                record.title,
                record.doc_id,
                to_json(record.metadata).decode(),
                record.created_at,
                record.updated_at,
                record.expires_at,
                record.position,
                record.request,
                own[0],
                self._generation.number,
            )
            for record, own in zip(knowledge, vectors, strict=True)
        ]

    async def _merge(
        self, connection: Pooled, knowledge: Sequence[Knowledge], vectors: Sequence[Vector]
    ) -> None:
        await connection.executemany(sql.MERGE, self._rows(knowledge, vectors))
        await _keep_windows(connection, knowledge, vectors)

    async def derived(self, knowledge: Sequence[Knowledge]) -> list[Derived | None]:
        """What was made of each; None where it is not there in that version."""
        ids = [record.knowledge_id for record in knowledge]
        versions = [record.updated_at for record in knowledge]
        generation = self._generation
        rows = await self._connections.fetch(sql.DERIVED, ids, versions, generation.number)
        return derived_in(rows, len(knowledge), generation)

    async def gone(self, ids: Sequence[str]) -> list[int]:
        """The places of those of the ids under which there is nothing."""
        rows = await self._connections.fetch(sql.GONE, ids, self._now())
        return [row["place"] - 1 for row in rows]

    async def get(self, knowledge_id: str) -> Knowledge | None:
        rows = await self._connections.fetch(sql.GET, knowledge_id, self._now())
        return knowledge_of(rows[0]) if rows else None

    async def delete(self, ids: Sequence[str]) -> int:
        """How many were there."""
        [row] = await self._connections.fetch(sql.DELETE, ids, self._now())
        return int(row["alive"])

    async def export(self) -> AsyncIterator[Knowledge]:
        """Every record, in pages by id."""
        least = 0
        while least <= _LAST and (
            rows := await self._connections.fetch(
                sql.EXPORT, UUID(int=least), _EXPORT_PAGE, self._now()
            )
        ):
            for knowledge in await in_pieces(knowledge_of, rows):
                yield knowledge
            least = rows[-1]["knowledge_id"].int + 1


async def _searched(
    connection: Pooled, way: Search, vector: Vector, top_k: int
) -> list[asyncpg.Record]:
    return await connection.fetch(way.statement, vector, top_k, *way.arguments)


def _have_windows(rows: Sequence[asyncpg.Record]) -> bool:
    return bool(rows) and bool(rows[0]["has_windows"])


async def _alive(
    connection: Pooled, knowledge: Sequence[Knowledge], now: datetime
) -> dict[UUID, Knowledge]:
    """What is there under the ids and has not expired.

    Raises `Conflict` with the place of one under whose id another request is.
    """
    ids = [UUID(record.knowledge_id) for record in knowledge]
    rows = {row["knowledge_id"]: row for row in await connection.fetch(sql.ALIVE, ids, now)}
    return {
        one: repeated(knowledge_of(rows[one]), record, place)
        for place, (one, record) in enumerate(zip(ids, knowledge, strict=True))
        if one in rows
    }


async def _keep_windows(
    connection: Pooled, knowledge: Sequence[Knowledge], vectors: Sequence[Vector]
) -> None:
    """Put the records' windows in the place of those that there are; of later versions, none."""
    versions = [(record.knowledge_id, record.updated_at) for record in knowledge]
    await connection.execute(windows.DELETE, *zip(*versions, strict=True))
    if others := _others(knowledge, vectors):
        await connection.execute(windows.STORE, *others)


def _others(knowledge: Sequence[Knowledge], vectors: Sequence[Vector]) -> list[Sequence[Any]]:
    """The arguments of the statement that keeps the records' other vectors."""
    rows = [
        (record.knowledge_id, record.updated_at, n, PgVector(vector))
        for record, own in zip(knowledge, vectors, strict=True)
        for n, vector in enumerate(own[1:], 1)
    ]
    return [*zip(*rows, strict=True)]


def _score_and_age(row: asyncpg.Record) -> tuple[float, datetime, UUID]:
    return row["score"], row["created_at"], row["knowledge_id"]


def _is_kept(record: Knowledge, there: Mapping[UUID, asyncpg.Record]) -> bool:
    row = there.get(UUID(record.knowledge_id))
    return row is not None and row["updated_at"] >= record.updated_at
