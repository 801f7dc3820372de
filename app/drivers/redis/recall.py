"""A recall with a query: outlines while it is being embedded, then cosines, then records."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any, TypeVar

import numpy as np

from app.core.memory.querying import query_of
from app.core.memory.records import Memory
from app.core.memory.requests import Recall
from app.drivers.redis.database import Database
from app.drivers.redis.layout import decoded, hashed
from app.drivers.redis.reading import own
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.candidates import Candidates, Rows
from app.ranking.evidence import Evidence, weigh
from app.ranking.outlines import unpacked_each
from app.ranking.query import Query
from app.ranking.ranked import (
    EVERY,
    Floats,
    Found,
    best,
    best_by_words,
    likeliest,
    nearest_cosines,
)
from app.ranking.scope import within
from app.settings import RecallSettings

_SMALL = 1_000
"""Up to so many outlines are read and weighed on the event loop: a thread would cost more."""
_ID = 16
"""Bytes of an id."""

Made = TypeVar("Made")
Vectors = Sequence[bytes | None]
"""The vectors of memories as Redis keeps them; None: the memory is gone."""
Hit = tuple[Memory, Found]


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how.

    The outlines of all of them come in one answer, and so do the vectors of those whose cosine
    counts: no index takes part.
    """

    def __init__(
        self,
        database: Database,
        embedder: Embedder,
        settings: RecallSettings,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._settings = settings
        self._now = now

    async def best(self, wanted: Recall) -> list[Hit]:
        """The best memories for a query, with what was found of each."""
        query = query_of(wanted, self._settings, self._database.language)
        if not wanted.use_vector:
            candidates = await self._candidates(wanted, query)
            found = await _aside(candidates, lambda: best_by_words(query, candidates, wanted.top_k))
        else:
            question, (candidates, evidence, early) = await _both(
                self._embedder.embed_question(query.text), self._weighed(wanted, query)
            )
            rows = likeliest(evidence, candidates, question, wanted.top_k)
            kept = early
            if kept is None:
                kept = await self._vectors(wanted, candidates, rows)
            rows, near = _cosines(rows, kept, question)
            found = best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)
        return await self._records(wanted, candidates, found)

    async def _weighed(
        self, wanted: Recall, query: Query
    ) -> tuple[Candidates, Evidence, Vectors | None]:
        """With the vectors of all, where they are so few that each of them counts."""
        candidates = await self._candidates(wanted, query)
        vectors = None
        if len(candidates) <= EVERY:
            vectors = await self._vectors(wanted, candidates, np.arange(len(candidates)))
        return candidates, await _aside(candidates, lambda: weigh(query, candidates)), vectors

    async def _candidates(self, wanted: Recall, query: Query) -> Candidates:
        """Those of the scope."""
        owner, names = hashed(wanted.user_id), self._database.names
        now = self._now()
        terms = [number for _, number in query.terms()]
        if wanted.filter:
            outlines = await self._admitted(wanted)
        else:
            [outlines] = await self._database.ask(("HVALS", names.of("o", owner)))

        def made() -> Candidates:
            candidates = unpacked_each(
                [each[:_ID] for each in outlines],
                [each[_ID:] for each in outlines],
                self._embedder.dimension,
                only=terms,
            )
            return within(candidates, now, wanted.conversation_id)

        return await asyncio.to_thread(made) if len(outlines) > _SMALL else made()

    async def _admitted(self, wanted: Recall) -> list[bytes]:
        """The outlines of those that the filter lets through, which only the records tell."""
        owner, names = hashed(wanted.user_id), self._database.names
        outlines, records = await self._database.ask(
            ("HVALS", names.of("o", owner)), ("HGETALL", names.of("r", owner))
        )
        lets = {
            one
            for one, memory in zip(records, await in_pieces(decoded, records.values()), strict=True)
            if wanted.filter.lets(memory)
        }
        return [each for each in outlines if each[:_ID] in lets]

    async def _vectors(self, wanted: Recall, candidates: Candidates, rows: Rows) -> Vectors:
        if not len(rows):
            return []
        key = self._database.names.of("v", hashed(wanted.user_id))
        [kept] = await self._database.ask(("HMGET", key, *candidates.keys(rows)))
        vectors: Vectors = kept
        return vectors

    async def _records(
        self, wanted: Recall, candidates: Candidates, found: Sequence[Found]
    ) -> list[Hit]:
        """What is found and still there, and of the conversation: two may have one number."""
        if not found:
            return []
        key = self._database.names.of("r", hashed(wanted.user_id))
        ids = candidates.keys(np.array([one.row for one in found], np.intp))
        [values] = await self._database.ask(("HMGET", key, *ids))
        return [
            (memory, one)
            for one, memory in zip(found, await own(values, wanted.user_id), strict=True)
            if memory is not None and wanted.conversation_id in (None, memory.conversation_id)
        ]


def _cosines(rows: Rows, kept: Vectors, question: Vector) -> tuple[Rows, Floats]:
    """The rows that are still there, and the cosine of each: of its nearest to the question's."""
    there = [n for n, one in enumerate(kept) if one is not None]
    if not there:
        return rows[:0], np.zeros(0)
    vectors = [one for one in kept if one is not None]
    size = 4 * question.shape[1]
    counts = np.array([len(one) // size for one in vectors])
    starts = np.cumsum(counts) - counts
    numbers = np.frombuffer(b"".join(vectors), "<f4").reshape(-1, question.shape[1])
    return rows[there], nearest_cosines(numbers.astype(np.float32, copy=False), starts, question)


async def _aside(candidates: Candidates, work: Callable[[], Made]) -> Made:
    """What `work` makes of the candidates: in a thread where they are many."""
    return await asyncio.to_thread(work) if len(candidates) > _SMALL else work()


async def _both(
    embedding: Coroutine[Any, Any, Vector], looking: Coroutine[Any, Any, Made]
) -> tuple[Vector, Made]:
    """Both results; the first failure ends the other."""
    task = asyncio.ensure_future(looking)
    try:
        return await embedding, await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
        elif not task.cancelled():
            task.exception()
