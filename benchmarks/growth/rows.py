"""A table that grows by COPY, and what an exact search finds in it."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import asyncpg
import numpy as np
from pgvector.asyncpg import register_vector

from app.drivers.pgvector.words import by_size
from app.embedding import Vector
from app.ranking.evidence import weigh
from app.ranking.outlines import packed, signs_of, unpacked
from app.ranking.query import Query
from app.ranking.ranked import best, cosines
from benchmarks.growth.made import DIMENSION, Vectors

TOP_K = 10
_CHUNK = 10_000
_CONVERSATIONS = 5
_TAGS = 4
_QUERY_WORDS = 12
_LANGUAGE = "english"

_STAGING = """
    create unlogged table new_rows (
        user_id text, conversation_id text, content text, tags text[], created_at timestamptz,
        embedding vector, outline bytea, long_outline bytea
    )
"""
_COLUMNS = """
    select attname::text from pg_attribute
    where attrelid = 'memories'::regclass and attnum > 0 and attgenerated = '' and not attisdropped
"""
_GIVEN = {
    "memory_id": "uuidv7()",
    "updated_at": "new_rows.created_at",
    **{
        column: f"new_rows.{column}"
        for column in (
            *("user_id", "conversation_id", "content", "tags", "created_at", "embedding"),
            *("outline", "long_outline"),
        )
    },
}
"""What a row has of its own; the rest is as in the row that the driver stored first."""

_EXACT = """
    select memory_id from memories
    where user_id = $1 and ($2::text is null or conversation_id = $2) and not tags && $3
    order by round((1 - (embedding <=> $4) / 2) * 1e6) desc, created_at desc, memory_id desc
    limit 10
"""
_ALL = """
    select memory_id, embedding, coalesce(outline, long_outline) as outline
    from memories where user_id = $1
"""


class Rows:
    """The memories of a database, written past the driver."""

    def __init__(
        self,
        connection: "asyncpg.Connection[asyncpg.Record]",
        vectors: Vectors,
        texts: Iterator[str],
    ) -> None:
        """The driver has to have stored a memory of the user `first`."""
        self._connection = connection
        self._vectors = vectors
        self._texts = texts
        self._latest = datetime.now(UTC)
        self.count = 0

    async def open(self) -> None:
        """Make the table that rows come through."""
        await self._connection.execute("set jit = off; set max_parallel_workers_per_gather = 0")
        await register_vector(self._connection)
        await self._connection.execute(_STAGING)

    async def fill(self, owners: Sequence[str]) -> None:
        """Store a memory for each of `owners`."""
        columns = [row[0] for row in await self._connection.fetch(_COLUMNS)]
        values = [_GIVEN.get(column, f"first.{column}") for column in columns]
        insert = (
            f"insert into memories ({', '.join(columns)}) select {', '.join(values)} "  # noqa: S608
            "from new_rows, (select * from memories where user_id = 'first') as first"
        )
        for start in range(0, len(owners), _CHUNK):
            part = owners[start : start + _CHUNK]
            vectors = self._vectors.take(len(part))
            rows = [
                self._row(self.count + n, owner, text, vector)
                for n, (owner, text, vector) in enumerate(
                    zip(part, self._texts, vectors, strict=False)
                )
            ]
            await self._connection.execute("truncate new_rows")
            await self._connection.copy_records_to_table("new_rows", records=rows)
            await self._connection.execute(insert)
            self.count += len(part)
        await self._connection.execute("vacuum analyze memories")

    def _row(self, n: int, owner: str, text: str, vector: Vector) -> tuple[Any, ...]:
        conversation = f"c{n % _CONVERSATIONS}"
        created = self._latest - timedelta(seconds=n)
        signs = signs_of(vector[np.newaxis])
        outline = packed(text, {}, conversation, created, signs, _LANGUAGE)
        kept = by_size(outline, owner)
        return owner, conversation, text, [f"t{n % _TAGS}"], created, vector, *kept

    def queries(self, count: int) -> list[tuple[str, Vector]]:
        """The first words of the next texts, and their vectors."""
        texts = islice(self._texts, count)
        words = [" ".join(text.split()[:_QUERY_WORDS]) for text in texts]
        return list(zip(words, self._vectors.take(count), strict=True))

    async def nearest(
        self, user: str, conversation: str | None, excluded: list[str], vector: Vector
    ) -> set[str]:
        """The ids of the ten with the greatest cosine, of all rows of the user."""
        rows = await self._connection.fetch(_EXACT, user, conversation, excluded, vector)
        return {str(row["memory_id"]) for row in rows}

    async def best(self, user: str, queries: Sequence[tuple[str, Vector]]) -> list[set[str]]:
        """For each query the ids of the ten with the most points, by the cosines of all rows."""
        rows = await self._connection.fetch(_ALL, user)
        outlines = [row["outline"] for row in rows]
        candidates = unpacked(
            b"".join(row["memory_id"].bytes for row in rows),
            np.array([len(outline) for outline in outlines], np.int64),
            b"".join(outlines),
            DIMENSION,
        )
        kept = np.array([row["embedding"].to_numpy() for row in rows], np.float32)
        every = np.arange(len(candidates))
        ids = [str(row["memory_id"]) for row in rows]
        found = []
        for text, vector in queries:
            evidence = weigh(Query(text=text, as_of=datetime.now(UTC)), candidates)
            near = cosines(candidates, every, kept, vector[np.newaxis])
            ten = best(evidence, candidates, every, near, TOP_K)
            found.append({ids[candidates.vector_at[one.row]] for one in ten})
        return found
