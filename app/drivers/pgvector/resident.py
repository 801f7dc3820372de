"""One user in the service's memory: read as a snapshot of PostgreSQL has it, and read on."""

import asyncio
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from sys import getsizeof
from typing import Any

import asyncpg
import numpy as np

from app.core.memory.filter import Filter
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.filtering import Filtering
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.reading import (
    Scope,
    read_all,
    read_records,
    read_scope,
    read_windows,
    vectors_in,
)
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Vector
from app.ranking.candidates import Candidates, Mask, joined
from app.ranking.outlines import unpacked_each
from app.ranking.ranked import Found

_USER_BYTES = 9_000
"""What a user takes without a memory, with `MOST_ANSWERS` answers."""
MOST_ANSWERS = 2
"""Agents ask the same again, as they go on with one task."""
_RECORD_BYTES = 450
"""What a record takes beside its content, its metadata and its vector; about."""
_OUTLINE_BYTES = 250

Server = tuple[Any, ...]
Answer = Sequence[tuple[bytes, Found]]
"""What ranking found for a recall, each with the memory's id."""


@dataclass(slots=True)
class Derived:
    """What was worked out of a user's memories."""

    answers: dict[Hashable, Answer] = field(default_factory=dict)
    """The last answers, by what was asked: they hold as long as the memories do not change."""
    filtering: Filtering | None = None
    """What filters compare, once one was asked for."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A user's memories as a snapshot of PostgreSQL had them."""

    candidates: Candidates
    vectors: Vector | None
    """Those that `Candidates.vector_at` counts, and perhaps some that are gone; None: too many."""

    records: Mapping[bytes, asyncpg.Record] | None
    """By id; None where the vectors are."""

    snapshot: str
    server: Server
    size: int
    """Bytes that it takes, about, without what was worked out of it."""

    texts: int = 0
    """Those of them that the records' texts take."""

    derived: Derived = field(default_factory=Derived)

    @property
    def all_bytes(self) -> int:
        """Bytes that it takes with what was worked out of it, about."""
        filtering = self.derived.filtering
        return self.size if filtering is None else self.size + filtering.size

    def remember(self, asked: Hashable, answer: Answer) -> None:
        """Keep the answer, in the place of the first where there are `MOST_ANSWERS`.

        It is not kept where memories expire, which changes answers too.
        """
        answers = self.derived.answers
        if self.candidates.expires.any():
            return
        if len(answers) >= MOST_ANSWERS:
            del answers[next(iter(answers))]
        answers[asked] = answer

    def admitted(self, wanted: Filter) -> Mask | None:
        """Which of the candidates the filter lets through; None: all. Their records are there."""
        if not wanted:
            return None
        if self.derived.filtering is None:
            self.derived.filtering = Filtering.of(self.candidates, self.records or {})
        return self.derived.filtering.mask(self.candidates, wanted)


class ResidentReader:
    """Reads users from connections whose statements all have one snapshot."""

    def __init__(self, generation: Generation, *, context: bool) -> None:
        """`context`: whether vectors in context count, where there are any."""
        self._generation = generation
        self._context = context

    async def whole(
        self, connection: Pooled, user_id: str, reading: asyncpg.Record, most: float
    ) -> Resident | None:
        """All of the user in at most `most` bytes, with or without vectors; None if it is more."""
        candidates = await read_scope(connection, Scope.of(user_id), self._generation)
        light = _light(candidates)
        if light > most:
            return None
        snapshot, server = reading["snapshot"], server_of(reading)
        alone = Resident(candidates, None, None, snapshot, server, light)
        vectors = 4 * len(candidates.vector_row) * self._generation.dimension
        room = most - light - vectors - len(candidates) * _RECORD_BYTES
        return await self._with_all(connection, user_id, alone, room) or alone

    async def _with_all(
        self, connection: Pooled, user_id: str, alone: Resident, room: float
    ) -> Resident | None:
        """The user with vectors and records; None where the texts have more than `room` bytes."""
        dimension = self._generation.dimension
        candidates = alone.candidates
        if room < 0:
            return None
        place = {key: n for n, key in enumerate(candidates.keys(np.arange(len(candidates))))}
        firsts = np.zeros((len(candidates), dimension), np.float32)
        records: dict[bytes, asyncpg.Record] = {}
        pages = read_all(connection, user_id, self._generation, context=self._context)
        async for rows, some in pages:
            room -= _texts(rows)
            if room < 0:
                return None
            firsts[[place[row["memory_id"].bytes] for row in rows]] = some
            records |= {row["memory_id"].bytes: row for row in rows}
            await asyncio.sleep(0)
        vectors = await self._with_windows(connection, user_id, candidates, firsts)
        candidates = replace(candidates, vector_at=np.arange(len(vectors), dtype=np.int32))
        return _filled(alone, candidates, vectors, records, _texts(records.values()))

    async def renewed(
        self, connection: Pooled, user_id: str, resident: Resident, snapshot: str
    ) -> Resident | None:
        """The user as `snapshot` has it, the connection's; None where all of it has to be read."""
        unseen = sql.UNSEEN[self._context]
        rows = await connection.fetch(unseen, user_id, resident.snapshot, self._generation.number)
        if any(row["changed"] is None for row in rows):
            return None
        gone = [row["changed"].bytes for row in rows]
        there = [row for row in rows if row["memory_id"] is not None]
        return await self._with(connection, user_id, resident, gone, there, snapshot)

    async def _with(
        self,
        connection: Pooled,
        user_id: str,
        resident: Resident,
        gone: list[bytes],
        there: list[asyncpg.Record],
        snapshot: str,
    ) -> Resident:
        """The user without the ids `gone`, and with the rows `there`."""
        kept = resident.vectors
        start = 0 if kept is None else len(kept)
        new = _candidates(there, self._generation.dimension, start)
        candidates = joined([_without(resident.candidates, gone), new])
        if kept is None or resident.records is None:
            light = _light(candidates)
            return Resident(candidates, None, None, snapshot, resident.server, light)
        sent = {row["memory_id"].bytes: row["vector"] for row in there}
        firsts = [sent[key] for key in new.keys(np.arange(len(new)))]
        made = await self._with_windows(
            connection, user_id, new, vectors_in(firsts, self._generation.dimension)
        )
        records = dict(resident.records)
        went = [records.pop(key) for key in gone if key in records]
        came = await read_records(connection, user_id, new.keys(np.arange(len(new))))
        records |= came
        vectors = np.concatenate([kept, made])
        packs = len(vectors) > 2 * len(candidates.vector_at) + 100
        if packs:
            vectors = vectors[candidates.vector_at]
            order = np.arange(len(vectors), dtype=np.int32)
            candidates = replace(candidates, vector_at=order)
        filtering = resident.derived.filtering
        if filtering is not None:
            filtering = (
                filtering.renewed(candidates, records)
                if went or packs
                else filtering.extended(new, records)
            )
        texts = resident.texts - _texts(went) + _texts(came.values())
        seen = replace(resident, snapshot=snapshot, derived=Derived(filtering=filtering))
        return _filled(seen, candidates, vectors, records, texts)

    async def _with_windows(
        self, connection: Pooled, user_id: str, candidates: Candidates, firsts: Vector
    ) -> Vector:
        """The vectors of the candidates, of each its first and its others, in their order.

        Where others are missing, which a client's SQL can do, the first stands in their place.
        """
        if len(candidates.vector_row) == len(candidates):
            return firsts
        vectors: Vector = firsts[candidates.vector_row]
        starts = np.searchsorted(candidates.vector_row, np.arange(len(candidates))).tolist()
        ends = [*starts[1:], len(vectors)]
        several = [n for n, start in enumerate(starts) if ends[n] - start > 1]
        keys = candidates.keys(np.array(several, np.intp))
        others = await read_windows(connection, user_id, keys, self._generation)
        for n, key in zip(several, keys, strict=True):
            sent = others.get(key, [])[: ends[n] - starts[n] - 1]
            if sent:
                start = starts[n] + 1
                vectors[start : start + len(sent)] = vectors_in(sent, self._generation.dimension)
        return vectors


def _filled(
    resident: Resident,
    candidates: Candidates,
    vectors: Vector,
    records: Mapping[bytes, asyncpg.Record],
    texts: int,
) -> Resident:
    """The user with those in the place of what it had."""
    size = _light(candidates) + vectors.nbytes + len(candidates) * _RECORD_BYTES + texts
    return replace(
        resident,
        candidates=candidates,
        vectors=vectors,
        records=records,
        size=size,
        texts=texts,
    )


def server_of(row: asyncpg.Record) -> Server:
    """What a row of `sql.SERVER` says."""
    return row["started"], row["standby"], row["memories"], row["crashed"]


def _candidates(rows: Sequence[asyncpg.Record], dimension: int, start: int) -> Candidates:
    """The candidates of rows with an outline each; their vectors stand in order from `start`."""
    ids = [row["memory_id"].bytes for row in rows]
    made = unpacked_each(ids, [row["outline"] for row in rows], dimension)
    ends = start + len(made.vector_row)
    return replace(made, vector_at=np.arange(start, ends, dtype=np.int32))


def _without(candidates: Candidates, gone: Sequence[bytes]) -> Candidates:
    """The candidates but those with these ids."""
    ids = set(gone)
    firsts = np.frombuffer(b"".join(gone), ">u8")[::2].astype(np.uint64)
    rows = np.flatnonzero(np.isin(candidates.ids[:, 0], firsts))
    going = [
        row for row, key in zip(rows.tolist(), candidates.keys(rows), strict=True) if key in ids
    ]
    if not going:
        return candidates
    return candidates.taken(np.delete(np.arange(len(candidates)), going))


def _light(candidates: Candidates) -> int:
    """Bytes of the candidates alone."""
    words = candidates.words.nbytes + candidates.word_row.nbytes
    return _USER_BYTES + len(candidates) * _OUTLINE_BYTES + words


def _texts(rows: Iterable[asyncpg.Record]) -> int:
    return sum(getsizeof(row["content"]) + getsizeof(row["metadata"]) for row in rows)
