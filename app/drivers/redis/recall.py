"""A recall with a query: outlines while it is being embedded, then cosines, then records."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from app.core.memory.querying import aside, query_of
from app.core.memory.records import Memory
from app.core.memory.requests import Recall
from app.drivers.redis.database import Database
from app.drivers.redis.layout import ID_BYTES, decoded, hashed
from app.drivers.redis.reading import own
from app.drivers.redis.residents import Resident, Residents
from app.drivers.redis.server import Command
from app.embedding import Vector
from app.pieces import in_pieces
from app.ranking.candidates import Candidates, Mask, Rows
from app.ranking.evidence import Evidence, weigh
from app.ranking.outlines import no_candidates, unpacked_each
from app.ranking.query import Query
from app.ranking.ranked import (
    EVERY,
    Floats,
    Found,
    best,
    best_by_words,
    cosines,
    likeliest,
    nearest_cosines,
)
from app.ranking.scope import within
from app.settings import RecallSettings
from app.tasks import both

_SMALL = 1_000
"""Up to so many outlines are unpacked on the event loop: a thread would cost more."""
_FEW = 200
"""Of up to so many memories all records are read at once."""
_TRIES = 3
"""How often a recall is made again while others delete what it finds."""

Hit = tuple[Memory, Found]


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how.

    The outlines of all of them come in one answer, and so do the vectors of those whose cosine
    counts: no index takes part.
    """

    def __init__(
        self,
        database: Database,
        settings: RecallSettings,
        now: Callable[[], datetime],
        residents: Residents,
    ) -> None:
        """`residents` may have been read of another generation: those are read anew."""
        self._database = database
        self._embedder = database.embedder
        self._settings = settings
        self._now = now
        self._residents = residents

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
            question, (known, candidates, evidence) = await both(
                self._embedder.embed_question(query.text), self._weighed(wanted, query)
            )
            rows = likeliest(evidence, candidates, question, wanted.top_k)
            rows, near = await self._cosines(wanted, known, candidates, rows, question)
            found = best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)
        else:
            known, candidates = await self._scope(wanted, query)
            found = await aside(candidates, lambda: best_by_words(query, candidates, wanted.top_k))
        return await self._hits(wanted, known, candidates, found)

    async def _weighed(self, wanted: Recall, query: Query) -> tuple[Resident, Candidates, Evidence]:
        known, candidates = await self._scope(wanted, query)
        return known, candidates, await aside(candidates, lambda: weigh(query, candidates))

    async def _scope(self, wanted: Recall, query: Query) -> tuple[Resident, Candidates]:
        """What is known of the user, and the candidates of the scope."""
        known = await self._known(wanted, query)
        admitted = await self._admitted(wanted, known) if wanted.filter else None
        own = within(known.candidates, self._now(), wanted.conversation_id, admitted)
        return known, own

    async def _known(self, wanted: Recall, query: Query) -> Resident:
        """What is kept of the user, if nothing has changed since; else what is read now."""
        owner, names = hashed(wanted.user_id), self._database.names
        stamped = ("HGET", names.of("stamps"), owner)
        there = self._residents.find(owner)
        if there is not None and there.generation == names.generation:
            [stamp] = await self._database.ask(stamped)
            if stamp == there.stamp:
                there.asked_again = True
                return there
        # The stamp first: what is read after it is as new, or newer.
        stamp, outlines = await self._database.ask(stamped, ("HVALS", names.of("o", owner)))
        ids = [each[:ID_BYTES] for each in outlines]
        only = None if self._residents.keeps else [number for _, number in query.terms()]

        def candidates() -> Candidates:
            packed = [each[ID_BYTES:] for each in outlines]
            return unpacked_each(ids, packed, self._embedder.dimension, only=only)

        if stamp is None or not outlines:
            return Resident(names.generation, b"", no_candidates(self._embedder.dimension))
        large = len(outlines) > _SMALL
        made = await asyncio.to_thread(candidates) if large else candidates()
        found = Resident(names.generation, stamp, made, ids)
        if len(ids) <= EVERY:
            await self._fill(owner, found, records=len(ids) <= _FEW)
        self._residents.keep(owner, found)
        return found

    async def _fill(self, owner: str, known: Resident, *, records: bool) -> None:
        """Read the vectors of all, and their records where they are wanted."""
        names, ids = self._database.names, known.ids
        commands: list[Command] = [("HMGET", names.of("v", owner), *ids)]
        if records:
            commands.append(("HMGET", names.of("r", owner), *ids))
        vectors, *values = await self._database.ask(*commands)
        numbers = np.frombuffer(b"".join(each for each in vectors if each is not None), "<f4")
        numbers = numbers.reshape(-1, self._embedder.dimension)
        if None not in vectors and len(numbers) == len(known.candidates.vector_row):
            known.vectors = numbers.astype(np.float32, copy=False)
        for read in values:
            known.records |= {
                one: value for one, value in zip(ids, read, strict=True) if value is not None
            }

    async def _admitted(self, wanted: Recall, known: Resident) -> Mask:
        """Which of the candidates the filter lets through: only the records tell."""
        owner = hashed(wanted.user_id)
        keys = known.candidates.keys(np.arange(len(known.candidates)))
        values = known.records
        if known.lacking(keys):
            [values] = await self._database.ask(("HGETALL", self._database.names.of("r", owner)))
        if any(one not in values for one in keys):  # others delete some at this moment

            def lets(one: bytes) -> bool:
                return one in values and wanted.filter.lets(decoded(values[one]))

            return np.array(await in_pieces(lets, keys), np.bool_)
        known.records = values
        if len(keys) > _SMALL:
            mask = await asyncio.to_thread(known.filtered, wanted.filter)
        else:
            mask = known.filtered(wanted.filter)
        if self._residents.find(owner) is known:
            self._residents.keep(owner, known)  # it is larger now
        return mask

    async def _cosines(
        self,
        wanted: Recall,
        known: Resident,
        candidates: Candidates,
        rows: Rows,
        question: Vector,
    ) -> tuple[Rows, Floats]:
        """The rows that are still there, and the cosine of each."""
        if known.vectors is None and self._keeps_vectors(wanted, known):
            # Who is asked for again while nothing changes is worth all of the vectors.
            await self._fill(hashed(wanted.user_id), known, records=False)
            self._residents.keep(hashed(wanted.user_id), known)
        if known.vectors is not None:
            return rows, cosines(candidates, rows, known.vectors, question)
        if not len(rows):
            return rows, np.zeros(0)
        key = self._database.names.of("v", hashed(wanted.user_id))
        [kept] = await self._database.ask(("HMGET", key, *candidates.keys(rows)))
        there = [n for n, one in enumerate(kept) if one is not None]
        if not there:
            return rows[:0], np.zeros(0)
        vectors = [kept[n] for n in there]
        dimension = question.shape[1]
        counts = np.array([len(one) // (4 * dimension) for one in vectors])
        numbers = np.frombuffer(b"".join(vectors), "<f4").reshape(-1, dimension)
        numbers = numbers.astype(np.float32, copy=False)
        return rows[there], nearest_cosines(numbers, np.cumsum(counts) - counts, question)

    def _keeps_vectors(self, wanted: Recall, known: Resident) -> bool:
        """Whether there is room for the vectors of a user who is kept, and use."""
        if not known.asked_again or self._residents.find(hashed(wanted.user_id)) is not known:
            return False
        vectors = 4 * self._embedder.dimension * len(known.candidates.vector_row)
        return self._residents.has_room(known.size + vectors)

    async def _hits(
        self, wanted: Recall, known: Resident, candidates: Candidates, found: Sequence[Found]
    ) -> tuple[list[Hit], bool]:
        """What is found and still there, and of the conversation: two may have one number."""
        ids = candidates.keys(np.array([one.row for one in found], np.intp))
        if lacking := known.lacking(ids):
            owner = hashed(wanted.user_id)
            key = self._database.names.of("r", owner)
            [values] = await self._database.ask(("HMGET", key, *lacking))
            read = zip(lacking, values, strict=True)
            known.records |= {one: value for one, value in read if value is not None}
            if self._residents.find(owner) is known:
                self._residents.keep(owner, known)  # it is larger now
        memories = await own([known.records.get(one) for one in ids], wanted.user_id)
        hits = [
            (memory, one)
            for one, memory in zip(found, memories, strict=True)
            if memory is not None and wanted.conversation_id in (None, memory.conversation_id)
        ]
        return hits, None not in memories
