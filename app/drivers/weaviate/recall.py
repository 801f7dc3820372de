"""A recall with a query: outlines while it is being embedded, then vectors, then records."""

import asyncio
import base64
from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import numpy as np

from app.core.memory.querying import aside, query_of
from app.core.memory.records import Memory
from app.core.memory.requests import Recall
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.layout import hashed, milliseconds, object_id, vectors_in
from app.drivers.weaviate.reading import Lists, memories_of, scope
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.candidates import Candidates, Rows
from app.ranking.evidence import Evidence, weigh
from app.ranking.outlines import no_candidates, unpacked_each
from app.ranking.query import Query
from app.ranking.ranked import (
    Floats,
    Found,
    best,
    best_by_words,
    likeliest,
    nearest_cosines,
)
from app.ranking.scope import within
from app.settings import RecallSettings
from app.tasks import both

_SMALL = 1_000
"""Up to so many outlines are unpacked on the event loop: a thread would cost more."""
_TRIES = 3
"""How often a recall is made again while others delete what it finds."""

Hit = tuple[Memory, Found]


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how.

    The outlines of all of them come first, then the vectors of those whose cosine counts: no index
    of vectors takes part, so that no recall misses a memory.
    """

    def __init__(
        self,
        database: Database,
        lists: Lists,
        embedder: Embedder,
        settings: RecallSettings,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._lists = lists
        self._embedder = embedder
        self._settings = settings
        self._now = now

    async def best(self, wanted: Recall) -> list[Hit]:
        """The best memories for a query, with what was found of each."""
        for _ in range(_TRIES):
            hits, complete = await self._best(wanted)
            if complete:
                break
        return hits

    async def _best(self, wanted: Recall) -> tuple[list[Hit], bool]:
        """The hits, and whether all of them were there still when their records were read."""
        query = query_of(wanted, self._settings, self._database.language)
        if wanted.use_vector:
            question, (candidates, evidence) = await both(
                self._embedder.embed_question(query.text), self._weighed(wanted, query)
            )
            rows = likeliest(evidence, candidates, question, wanted.top_k)
            rows, near = await self._cosines(wanted, candidates, rows, question)
            found = best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)
        else:
            candidates = await self._scope(wanted, query)
            found = await aside(candidates, lambda: best_by_words(query, candidates, wanted.top_k))
        return await self._hits(wanted, candidates, found)

    async def _weighed(self, wanted: Recall, query: Query) -> tuple[Candidates, Evidence]:
        candidates = await self._scope(wanted, query)
        return candidates, await aside(candidates, lambda: weigh(query, candidates))

    async def _scope(self, wanted: Recall, query: Query) -> Candidates:
        """What is known of the memories of the scope."""
        now = self._now()
        names = ("key", "outline", "record") if wanted.filter else ("key", "outline")
        of_scope = scope(wanted.conversation_id, None, milliseconds(now), wanted.filter)
        rows = await self._lists.unordered(hashed(wanted.user_id), of_scope, names)
        if not rows:
            return no_candidates(self._embedder.dimension)
        if wanted.filter:
            memories = await memories_of(rows, wanted.user_id)
            let = await in_pieces(wanted.filter.lets, memories)
            keys = {memory.memory_id for memory, ok in zip(memories, let, strict=True) if ok}
            rows = [row for row in rows if row.texts["key"] in keys]
            if not rows:
                return no_candidates(self._embedder.dimension)
        only = [number for _, number in query.terms()]

        def unpacked() -> Candidates:
            ids = [UUID(row.texts["key"]).bytes for row in rows]
            outlines = [base64.b64decode(row.texts["outline"]) for row in rows]
            return unpacked_each(ids, outlines, self._embedder.dimension, only=only)

        large = len(rows) > _SMALL
        candidates = await asyncio.to_thread(unpacked) if large else unpacked()
        return within(candidates, now, wanted.conversation_id)

    async def _cosines(
        self, wanted: Recall, candidates: Candidates, rows: Rows, question: Vector
    ) -> tuple[Rows, Floats]:
        """The rows that are still there, and the cosine of each."""
        if not len(rows):
            return rows, np.zeros(0)
        ids = self._objects(wanted, candidates, rows)
        there = {
            row.uuid: row.texts.get("vectors") for row in await self._read(wanted, ids, "vectors")
        }
        kept = [there.get(one) for one in ids]
        own = [n for n, text in enumerate(kept) if text is not None]
        if not own:
            return rows[:0], np.zeros(0)
        dimension = question.shape[1]
        vectors = await in_pieces(lambda n: vectors_in(kept[n] or "", dimension), own)
        counts = np.array([len(each) for each in vectors])
        numbers = np.concatenate(vectors)
        return rows[own], nearest_cosines(numbers, np.cumsum(counts) - counts, question)

    async def _hits(
        self, wanted: Recall, candidates: Candidates, found: Sequence[Found]
    ) -> tuple[list[Hit], bool]:
        """What is found and still there."""
        if not found:
            return [], True
        ids = self._objects(wanted, candidates, np.array([one.row for one in found], np.intp))
        rows = {row.uuid: row for row in await self._read(wanted, ids, "record")}
        there = [(rows[one], what) for one, what in zip(ids, found, strict=True) if one in rows]
        memories = await memories_of([row for row, _ in there], wanted.user_id)
        if len(memories) != len(there):
            return [], True
        hits = [
            (memory, what)
            for memory, (_, what) in zip(memories, there, strict=True)
            if wanted.has(memory, self._now())
        ]
        return hits, len(hits) == len(found)

    async def _read(self, wanted: Recall, ids: Sequence[str], name: str) -> list[Row]:
        return await self._database.by_ids(self._database.names.memories, ids, (name,))

    def _objects(self, wanted: Recall, candidates: Candidates, rows: Rows) -> list[str]:
        """The ids of the objects of some candidates."""
        owner = hashed(wanted.user_id)
        return [object_id(owner, str(UUID(bytes=key))) for key in candidates.keys(rows)]
