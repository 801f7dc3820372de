"""Writing memories: what is embedded, and the one statement that keeps them."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import numpy as np
from pgvector import Vector as PgVector
from pydantic_core import to_json

from app.core.memory.derived import Derived, outline_of
from app.core.memory.embedded import text_of
from app.core.memory.records import Memory, uuid_of, version_of
from app.core.memory.requests import Given, Put
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.derived import derived_in
from app.drivers.pgvector.documents import clear
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.turns import Turns, said_in
from app.drivers.pgvector.words import by_size
from app.errors import Conflict, Contended
from app.pieces import in_pieces
from app.ranking.outlines import signs_in, signs_of
from app.ranking.speakers import name_before

There: TypeAlias = Mapping[tuple[str, UUID], asyncpg.Record]
"""The rows of the database, by user and id."""


@dataclass(slots=True)
class Vectors:
    """The vectors of memories, by their places."""

    first: dict[int, PgVector] = field(default_factory=dict)
    windows: dict[int, list[PgVector]] = field(default_factory=dict)
    """Those of a text that was embedded just now, from the second on: where it has or had any."""

    context: dict[int, PgVector] = field(default_factory=dict)
    """In context, of the memories that have one."""

    signs: dict[int, bytes] = field(default_factory=dict)
    outlines: dict[int, bytes] = field(default_factory=dict)
    """Those that the caller has; the others are made, with the signs."""


class Writing:
    """Keeps memories that are checked already, and come in the order of their time.

    A statement changes them in the order of their ids, as a forget does: so two that change or
    delete several of the same memories never deadlock.
    """

    def __init__(
        self,
        connections: Connections,
        generation: Generation,
        turns: Turns | None,
        now: Callable[[], datetime],
        wrote: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`turns`: where what was said before is looked up, if vectors in context are made.

        `now` is the driver's clock; `wrote` is told how many rows each statement has written.
        """
        self._connections = connections
        self._wrote = wrote
        self._generation = generation
        self._now = now
        self._turns = turns

    async def store(self, memories: Sequence[Memory]) -> None:
        """Insert new ones, all or none."""
        await self._write(sql.STORE, memories, {})

    async def merge(self, memories: Sequence[Memory], given: Given) -> None:
        """Keep those that are not there, or only in an older version. No id comes twice."""
        there = await self._there(memories)
        wanted = [memory for memory in memories if not _is_kept(memory, there)]
        if wanted:
            await self._write(sql.MERGE, wanted, there, given=given)

    async def derived(self, memories: Sequence[Memory]) -> list[Derived | None]:
        """What was made of each; None where it is not there in that version."""
        generation, language = self._generation, self._connections.language
        rows = await self._connections.fetch(sql.DERIVED, *_versions(memories), generation.number)
        return derived_in(rows, len(memories), generation, language)

    async def gone(self, users: Sequence[str], ids: Sequence[str]) -> list[int]:
        """The places of those of the users and ids, in pairs, under which there is nothing."""
        rows = await self._connections.fetch(sql.GONE, users, ids, self._now())
        return [row["place"] - 1 for row in rows]

    async def once(self, memories: Sequence[Memory], now: datetime) -> There:
        """Keep those under whose ids nothing is at that moment; the rows of the others.

        Keeps all of them or none: raises `Conflict` with the place of one whose row is of another
        request, and `Contended` where others delete what was there. No id comes twice.
        """
        async with self._connections.acquire() as connection:
            there = await _alive(connection, memories, memories, now)
        new = [memory for memory in memories if _key(memory) not in there]
        if not new:
            return there
        vectors = await self._vectors(new, {}, at_version=False)
        columns = await self._columns(new, vectors)
        async with self._connections.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                sql.ONCE + sql.RETURNING, *columns, self._generation.number, now
            )
            written = _keys(rows)
            await connection.execute(sql.DELETE_WINDOWS, *columns_of(written, 2))
            await _store_windows(connection, new, vectors, written)
            others = [memory for memory in new if _key(memory) not in written]
            if others:
                there |= await _alive(connection, others, memories, now)
            if len(there) + len(written) < len(memories):
                raise Contended
        self._wrote(len(rows))
        return there

    async def replace(self, memory: Memory, over: datetime) -> bool:
        """Whether it put the memory in the place of its version `over`."""
        there = await self._there([memory])
        found = there.get(_key(memory))
        if found is None or found["updated_at"] != over:
            return False
        if over == memory.updated_at:  # it was made before, and only its answer was lost
            return True
        return await self._write(sql.REPLACE, [memory], there, over) > 0

    async def put(self, wanted: Put[Memory]) -> int:
        """Replace a document that is memories; how many that had not expired have given way."""
        memories = wanted.records
        vectors = await self._vectors(memories, {}, at_version=False)
        columns = await self._columns(memories, vectors)
        async with self._connections.acquire() as connection, connection.transaction():
            cleared = await clear(connection, wanted, self._now())
            rows = cleared.rows
            if memories and not cleared.later:
                arguments = [*columns, self._generation.number]
                rows += await _keep(connection, sql.MERGE, arguments, memories, vectors)
        self._wrote(rows)
        return cleared.alive

    async def _write(
        self,
        statement: str,
        memories: Sequence[Memory],
        there: There,
        *over: datetime,
        given: Given | None = None,
    ) -> int:
        """Keep the memories by the statement, of one with `over`; how many rows it wrote."""
        vectors = await self._vectors(memories, there, given or {}, at_version=bool(over))
        columns = await self._columns(memories, vectors)
        values = [value for (value,) in columns] if over else columns
        arguments = [*values, self._generation.number, *over]
        if not vectors.windows:
            rows = await self._connections.change(statement, *arguments)
        else:
            async with self._connections.acquire() as connection, connection.transaction():
                rows = await _keep(connection, statement, arguments, memories, vectors)
        self._wrote(rows)
        return rows

    async def _there(self, memories: Sequence[Memory]) -> There:
        """What is kept under the memories' ids, with the vectors of what is older than they are."""
        rows = await self._connections.fetch(sql.THERE, *_versions(memories))
        return {(row["user_id"], row["memory_id"]): row for row in rows}

    async def _columns(self, memories: Sequence[Memory], vectors: Vectors) -> list[tuple[Any, ...]]:
        """The arguments of the statement that keeps the memories: a column's values each."""
        language = self._connections.language

        def row(place: int) -> tuple[Any, ...]:
            memory = memories[place]
            outline = vectors.outlines.get(place)
            if outline is None:
                outline = outline_of(memory, vectors.signs[place], language)
            return (
                uuid_of(memory.memory_id),
                memory.user_id,
                memory.conversation_id,
                memory.content,
                to_json(memory.tags).decode(),
                to_json(memory.metadata).decode(),
                memory.created_at,
                memory.updated_at,
                *_occurred(memory),
                memory.expires_at,
                memory.request,
                vectors.first[place],
                vectors.context.get(place),
                *by_size(outline, memory.user_id),
            )

        rows = await in_pieces(row, range(len(memories)))
        rows.sort(key=lambda values: values[:2])
        return [*zip(*rows, strict=True)]

    async def _vectors(
        self,
        memories: Sequence[Memory],
        there: There,
        given: Given | None = None,
        *,
        at_version: bool,
    ) -> Vectors:
        """A text that has not changed keeps the vectors of its row; what is `given` is not made.

        Windows are kept only where the statement writes `at_version`: else others may have changed
        the text before it and back, and the windows are gone.
        """
        found = Vectors()
        moved: list[int] = []
        for place, memory in enumerate(memories):
            row = there.get(_key(memory)) if there else None
            if row is None or row["embedding"] is None or said_in(row) != text_of(memory):
                moved.append(place)
                continue
            if not at_version and self._has_windows(row):
                moved.append(place)
                continue
            found.first[place], found.signs[place] = row["embedding"], signs_in(row["outline"])
            if _turn(row) != (memory.conversation_id, memory.occurred_at):
                moved.append(place)
            elif row["context"] is not None:
                found.context[place] = row["context"]
        for place in moved:
            mine = given.get(version_of(memories[place])) if given else None
            if mine is not None and place not in found.first:
                row = there.get(_key(memories[place])) if there else None
                self._take(found, place, mine, row)
        changed = [place for place in moved if place not in found.first]
        texts = await in_pieces(text_of, memories) if changed or self._turns else ()
        windows = [
            await self._generation.embedder.windows(
                texts[place], name_before(texts[place], memories[place].metadata)
            )
            for place in changed
        ]
        in_context = await self._turns.before(memories, texts, moved) if self._turns else {}
        wanted = [*(text for own in windows for text in own), *in_context.values()]
        if wanted:
            made = await self._generation.embedder.embed(wanted)
            last = 0
            for place, own in zip(changed, windows, strict=True):
                first, last = last, last + len(own)
                row = there.get(_key(memories[place])) if there else None
                self._take(found, place, Derived(made[first:last]), row)
            found.context |= zip(in_context, map(PgVector, made[last:]), strict=True)
        return found

    def _take(
        self, found: Vectors, place: int, derived: Derived, row: asyncpg.Record | None
    ) -> None:
        """Let the memory of the place, which `row` is of if it is there, have what was made."""
        own, outline = derived.vectors, derived.outline_in(self._connections.language)
        if outline is None:
            found.signs[place] = signs_of(own)
        else:
            found.outlines[place] = outline
        found.first[place] = PgVector(own[0])
        if len(own) > 1 or (row is not None and self._has_windows(row)):
            found.windows[place] = [PgVector(one) for one in own[1:]]

    def _has_windows(self, row: asyncpg.Record) -> bool:
        """Whether a row's text has several vectors."""
        one = np.zeros((1, self._generation.dimension), np.float32)
        return len(signs_in(row["outline"])) > len(signs_of(one))


async def _keep(
    connection: Pooled,
    statement: str,
    arguments: Sequence[Any],
    memories: Sequence[Memory],
    vectors: Vectors,
) -> int:
    """Write memories and the windows of their texts; how many memories it wrote."""
    rows = await connection.fetch(statement + sql.RETURNING, *arguments)
    written = _keys(rows) & {_key(memories[place]) for place in vectors.windows}
    await connection.execute(sql.DELETE_WINDOWS, *columns_of(written, 2))
    await _store_windows(connection, memories, vectors, written)
    return len(rows)


def columns_of(rows: Iterable[tuple[Any, ...]], width: int) -> Sequence[Sequence[Any]]:
    """The columns of rows, also of none."""
    return [*zip(*rows, strict=True)] or [()] * width


def _versions(memories: Sequence[Memory]) -> list[tuple[Any, ...]]:
    """Users, ids and versions."""
    threes = ((memory.user_id, memory.memory_id, memory.updated_at) for memory in memories)
    return [*zip(*threes, strict=True)]


def _key(memory: Memory) -> tuple[str, UUID]:
    return memory.user_id, uuid_of(memory.memory_id)


def _keys(rows: Iterable[asyncpg.Record]) -> set[tuple[str, UUID]]:
    return {(row["user_id"], row["memory_id"]) for row in rows}


async def _alive(
    connection: Pooled, wanted: Sequence[Memory], memories: Sequence[Memory], now: datetime
) -> dict[tuple[str, UUID], asyncpg.Record]:
    """The rows of those that are wanted of the memories, and have not expired.

    Raises `Conflict` with the place of a memory whose row is of another request.
    """
    rows = await connection.fetch(sql.ALIVE, *columns_of(map(_key, wanted), 2), now)
    there = {(row["user_id"], row["memory_id"]): row for row in rows}
    for place, memory in enumerate(memories):
        row = there.get(_key(memory))
        if row is not None and row["request"] != memory.request:
            raise Conflict(place=place)
    return there


async def _store_windows(
    connection: Pooled,
    memories: Sequence[Memory],
    vectors: Vectors,
    written: Container[tuple[str, UUID]],
) -> None:
    """Keep the windows of those memories that were written."""
    windows = [
        (*_key(memories[place]), n, vector)
        for place, others in vectors.windows.items()
        if _key(memories[place]) in written
        for n, vector in enumerate(others, 1)
    ]
    if windows:
        await connection.execute(sql.STORE_WINDOWS, *columns_of(windows, 4))


def _is_kept(memory: Memory, there: There) -> bool:
    row = there.get(_key(memory))
    return row is not None and row["updated_at"] >= memory.updated_at


def _turn(row: asyncpg.Record) -> tuple[str | None, datetime]:
    """Where in which conversation a row is."""
    return row["conversation_id"], row["occurred_at"] or row["created_at"]


def _occurred(memory: Memory) -> tuple[datetime | None, int]:
    """The columns `occurred_at`, null where it is the creation, and `occurred_offset`, minutes."""
    offset = memory.occurred_at.utcoffset() or timedelta()
    own = memory.occurred_at != memory.created_at
    return memory.occurred_at if own else None, offset // timedelta(minutes=1)
