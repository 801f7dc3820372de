"""Reads what ranking wants of a user's memories: outlines, cosines, vectors, records."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import asyncpg
import numpy as np
import numpy.typing as npt

from app.core.memory.filter import EVERYTHING, Filter
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.sql import recall as sql
from app.drivers.pgvector.sql.scope import of_user
from app.embedding import Vector
from app.ranking.candidates import Candidates, Rows, joined
from app.ranking.outlines import no_candidates, unpacked

_FIRST = UUID(int=0)
_LAST = UUID(int=2**128 - 1)
_VECTOR_HEADER = 4
"""Bytes of pgvector's binary form before the numbers."""
_AT_ONCE = 1_000_000
"""Bytes of outlines that are read on the event loop; for more others would wait too long."""
RECORDS = 1_000
"""Records with their vectors that are read at once."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Some memories: the statements that read them, and their arguments but the least id."""

    parts: tuple[sql.Part, ...]
    arguments: Sequence[Any]

    @classmethod
    def of(
        cls, user_id: str, conversation_id: str | None = None, wanted: Filter = EVERYTHING
    ) -> Self:
        """A user's, of one conversation if given, that the filter lets through, expired or not."""
        if conversation_id is None and not wanted:
            return cls(sql.WHOLE, (user_id,))
        where = of_user(user_id, conversation_id, wanted)
        return cls(sql.some(where), where.arguments)


async def read_scope(
    connection: Pooled,
    scope: Scope,
    generation: Generation,
    only: Sequence[int] | None = None,
) -> Candidates:
    """The candidates of a scope, with all words or `only` those of these hashes.

    More than a page are read as one transaction sees them.
    """
    if connection.is_in_transaction():
        return await _read_pages(connection, scope, generation, only)
    first = [await _page(connection, scope, part, _FIRST, generation, only) for part in scope.parts]
    if all(len(page) < part.page for page, part in zip(first, scope.parts, strict=True)):
        return joined(first)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await _read_pages(connection, scope, generation, only)


async def _read_pages(
    connection: Pooled, scope: Scope, generation: Generation, only: Sequence[int] | None
) -> Candidates:
    pages = [no_candidates(generation.dimension)]
    for part in scope.parts:
        least = _FIRST
        while True:
            page = await _page(connection, scope, part, least, generation, only)
            pages.append(page)
            if len(page) < part.page:
                break
            last = max(page.keys(np.arange(len(page))))
            if last == _LAST.bytes:
                break
            least = UUID(int=int.from_bytes(last, "big") + 1)
    return joined(pages)


async def _page(
    connection: Pooled,
    scope: Scope,
    part: sql.Part,
    least: UUID,
    generation: Generation,
    only: Sequence[int] | None,
) -> Candidates:
    dimension = generation.dimension
    row = await connection.fetchrow(part.outlines, *scope.arguments, least, generation.number)
    assert row is not None  # noqa: S101 - an aggregate without groups always has one
    if not row["n"]:
        return no_candidates(dimension)
    sizes = np.frombuffer(row["sizes"], ">i4").astype(np.int64)
    page = (row["ids"], sizes, row["outlines"], dimension)
    if len(row["outlines"]) > _AT_ONCE:
        return await asyncio.to_thread(unpacked, *page, only=only)
    return unpacked(*page, only=only)


async def read_cosines(
    connection: Pooled,
    user_id: str,
    candidates: Candidates,
    rows: Rows,
    question: Vector,
    generation: Generation,
    *,
    context: bool,
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The rows that are still there, and the cosine of each: of its nearest to the question's."""
    windows = len(candidates.vector_row) != len(candidates)
    statement = sql.COSINES[context, windows]
    ids = [UUID(bytes=key) for key in candidates.keys(rows)]
    found: dict[int, float] = {}
    for vector in question:
        row = await connection.fetchrow(statement, user_id, ids, vector, generation.number)
        if row is None or row["places"] is None:
            continue
        places = np.frombuffer(row["places"], ">i4").tolist()
        for place, cosine in zip(
            places, np.frombuffer(row["cosines"], ">f8").tolist(), strict=True
        ):
            found[place - 1] = max(cosine, found.get(place - 1, -1.0))
    places = sorted(found)
    return rows[places], np.array([found[place] for place in places])


async def read_records(
    connection: Pooled, user_id: str, keys: Sequence[bytes]
) -> dict[bytes, asyncpg.Record]:
    """The records of those ids that are there."""
    rows = await connection.fetch(sql.RECORDS, user_id, [UUID(bytes=key) for key in keys])
    return {row["memory_id"].bytes: row for row in rows}


async def read_all(
    connection: Pooled, user_id: str, generation: Generation, *, context: bool
) -> AsyncIterator[tuple[list[asyncpg.Record], Vector]]:
    """All of a user's records with their first vectors, page by page, in one transaction."""
    least = _FIRST
    while True:
        page = (user_id, least, RECORDS)
        rows = await connection.fetch(sql.RECORDS_PAGE, *page)
        if rows:
            sent = await connection.fetchval(sql.VECTORS_PAGE[context], *page, generation.number)
            yield rows, vectors_in([sent], generation.dimension)
        if len(rows) < RECORDS or rows[-1]["memory_id"] == _LAST:
            return
        least = UUID(int=rows[-1]["memory_id"].int + 1)


async def read_windows(
    connection: Pooled, user_id: str, keys: Sequence[bytes], generation: Generation
) -> dict[bytes, list[bytes]]:
    """The other vectors of texts that have several, as `vectors_in` reads them."""
    found: dict[bytes, list[bytes]] = {}
    if keys:
        ids = [UUID(bytes=key) for key in keys]
        rows = await connection.fetch(sql.WINDOWS, user_id, ids, generation.number)
        for row in rows:
            found.setdefault(row["memory_id"].bytes, []).append(row["vector"])
    return found


def vectors_in(sent: Sequence[bytes], dimension: int) -> Vector:
    """Vectors in pgvector's binary form, one or more in each, as float32 of (n, dimension)."""
    data = np.frombuffer(b"".join(sent), np.uint8).reshape(-1, _VECTOR_HEADER + 4 * dimension)
    numbers = np.ascontiguousarray(data[:, _VECTOR_HEADER:]).view(">f4")
    return numbers.astype(np.float32)
