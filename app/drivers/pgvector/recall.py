"""A recall with a query: evidence while it is being embedded, then cosines, then records."""

from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import asyncpg
import numpy as np

from app.core.memory.querying import aside, query_of
from app.core.memory.requests import Recall
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.reading import Scope, read_cosines, read_records, read_scope
from app.drivers.pgvector.resident import Answer, Resident
from app.drivers.pgvector.residents import Residents
from app.embedding import Vector
from app.ranking.candidates import Candidates
from app.ranking.evidence import Evidence, weigh
from app.ranking.query import Query
from app.ranking.ranked import Found, best, best_by_words, cosines, likeliest
from app.ranking.scope import within
from app.settings import RecallSettings
from app.tasks import both

Row = tuple[asyncpg.Record, Found]


@dataclass(frozen=True, slots=True)
class Known:
    """Candidates of a recall, and what is known of them without asking PostgreSQL."""

    candidates: Candidates
    resident: Resident | None = None
    evidence: Evidence | None = None
    answer: Answer | None = None
    """What was found for the same recall, since when nothing has changed."""
    connection: "Pooled | None" = None
    """What the candidates were read on, in a transaction that goes on."""

    @property
    def vectors(self) -> Vector | None:
        """Those that `Candidates.vector_at` counts."""
        return None if self.resident is None else self.resident.vectors

    @property
    def records(self) -> Mapping[bytes, asyncpg.Record] | None:
        """The memories by id."""
        return None if self.resident is None else self.resident.records


class _Gone(Exception):
    """A memory that is among the best was deleted after it was a candidate."""


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how."""

    def __init__(
        self,
        connections: Connections,
        generation: Generation,
        settings: RecallSettings,
        now: Callable[[], datetime],
    ) -> None:
        """`now` is the driver's clock."""
        self._connections = connections
        self._generation = generation
        self._settings = settings
        self._now = now
        self.residents = Residents(
            connections,
            generation,
            size=settings.resident_mb * 1_000_000,
            context=settings.context,
        )

    async def best(self, wanted: Recall) -> list[Row]:
        """The best rows for a query, with what was found of each."""
        query = query_of(wanted, self._settings, self._connections.language)
        if wanted.use_vector:
            question, known = await both(
                self._generation.embedder.embed_question(query.text), self._weighed(wanted, query)
            )
        else:
            question, known = None, await self._known(wanted, query)
        try:
            return await self._best(wanted, query, known, question)
        except _Gone:
            return await self._as_of_one_moment(wanted, query, question)

    async def _best(
        self, wanted: Recall, query: Query, known: Known, question: Vector | None
    ) -> list[Row]:
        """The best of what is known; raises `_Gone` where one of them was deleted meanwhile."""
        answer = known.answer
        if answer is None:
            candidates, found = known.candidates, await self._found(wanted, query, known, question)
            keys = candidates.keys(np.array([one.row for one in found], np.intp))
            answer = [*zip(keys, found, strict=True)]
            if known.resident is not None and query.recency is None:
                known.resident.remember(_asked(wanted, query), answer)
        return await self._rows(wanted, known, answer)

    async def _as_of_one_moment(
        self, wanted: Recall, query: Query, question: Vector | None
    ) -> list[Row]:
        """The same, read in one transaction: a document is there as one put left it."""
        async with (
            self._connections.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            known = replace(await self._read(wanted, query, connection), connection=connection)
            if question is not None:
                evidence = await aside(known.candidates, lambda: weigh(query, known.candidates))
                known = replace(known, evidence=evidence)
            return await self._best(wanted, query, known, question)

    async def _weighed(self, wanted: Recall, query: Query) -> Known:
        """With evidence, unless the answer is known."""
        known = await self._known(wanted, query)
        if known.answer is not None:
            return known
        evidence = await aside(known.candidates, lambda: weigh(query, known.candidates))
        return replace(known, evidence=evidence)

    async def _known(self, wanted: Recall, query: Query) -> Known:
        """The candidates: of a user who is kept, else as PostgreSQL has them."""
        resident = await self.residents.find(wanted.user_id)
        now = self._now()
        if resident is not None and (resident.records is not None or not wanted.filter):
            answer = resident.derived.answers.get(_asked(wanted, query))
            if answer is not None:
                return Known(resident.candidates, resident, answer=answer)
            admitted = self.residents.admitted(resident, wanted.filter)
            own = within(resident.candidates, now, wanted.conversation_id, admitted)
            return Known(own, resident)
        async with self._connections.acquire() as connection:
            return await self._read(wanted, query, connection)

    async def _read(self, wanted: Recall, query: Query, connection: Pooled) -> Known:
        scope = Scope.of(wanted.user_id, wanted.conversation_id, wanted.filter)
        terms = [number for _, number in query.terms()]
        candidates = await read_scope(connection, scope, self._generation, terms)
        return Known(within(candidates, self._now()))

    @asynccontextmanager
    async def _connection(self, known: Known) -> AsyncIterator[Pooled]:
        """The connection that the candidates are read on, or any."""
        if known.connection is not None:
            yield known.connection
            return
        async with self._connections.acquire() as connection:
            yield connection

    async def _found(
        self, wanted: Recall, query: Query, known: Known, question: Vector | None
    ) -> list[Found]:
        """The best of the candidates, by words alone where the question has no vectors."""
        candidates, evidence = known.candidates, known.evidence
        if question is None or evidence is None:
            return await aside(candidates, lambda: best_by_words(query, candidates, wanted.top_k))
        rows = likeliest(evidence, candidates, question, wanted.top_k)
        if known.vectors is not None:
            near = cosines(candidates, rows, known.vectors, question)
        elif len(rows):
            async with self._connection(known) as connection:
                there, near = await read_cosines(
                    connection,
                    wanted.user_id,
                    candidates,
                    rows,
                    question,
                    self._generation,
                    context=self._settings.context,
                )
            if len(there) < len(rows):
                raise _Gone
        else:
            near = np.zeros(0)
        return best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)

    async def _rows(self, wanted: Recall, known: Known, answer: Answer) -> list[Row]:
        if not answer:
            return []
        records = known.records
        if records is None:
            keys = [key for key, _ in answer]
            async with self._connection(known) as connection:
                records = await read_records(connection, wanted.user_id, keys)
            if len(records) < len(keys):
                raise _Gone
        pairs = ((records.get(key), one) for key, one in answer)
        return [(row, one) for row, one in pairs if row is not None and _belongs(row, wanted)]


def _asked(wanted: Recall, query: Query) -> Hashable:
    """What two recalls have in common whose answers are the same while nothing changes.

    None has recency, which counts from the moment.
    """
    return replace(wanted, as_of=None), query.as_of.date(), query.language


def _belongs(row: asyncpg.Record, wanted: Recall) -> bool:
    """Whether it is of the conversation: two may have one number."""
    return wanted.conversation_id in (None, row["conversation_id"])
