"""A recall with a query: candidates from Pinecone, which `app/ranking` ranks."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import numpy as np

from app.core.memory.embedded import check_vectors
from app.core.memory.moments import to_microseconds
from app.core.memory.querying import aside, query_of
from app.core.memory.records import Knowledge, Memory, record_id
from app.core.memory.requests import Recall, RecallKnowledge
from app.drivers.pinecone.index import at_once
from app.drivers.pinecone.layout import KNOWLEDGE, Row, constant, hashed
from app.drivers.pinecone.reading import TRIES, Near, Reading, latest_of
from app.drivers.pinecone.scope import Scope
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.evidence import weigh
from app.ranking.outlines import unpacked_each
from app.ranking.query import Query
from app.ranking.ranked import Found, best, best_by_words, cosines, likeliest
from app.ranking.similarity import nearest
from app.settings import RecallSettings

_TIE: Final = 2e-3
"""Cosines that differ by less may be of equal texts: Pinecone's have that much of noise."""

Hit = tuple[Memory, Found]


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how.

    Up to as many memories as one answer holds, all of them are candidates. Of more, those with the
    nearest vectors, and the nearest of those that share a word with the query.
    """

    def __init__(self, reading: Reading, embedder: Embedder, settings: RecallSettings) -> None:
        self._reading = reading
        self._embedder = embedder
        self._settings = settings

    async def best(self, wanted: Recall) -> list[Hit]:
        """The best memories for a query, with what was found of each."""
        query = query_of(wanted, self._settings, self._settings.language)
        question: Vector | None = None
        if wanted.use_vector:
            question = await self._embedder.embed_question(query.text)
            check_vectors([question], self._embedder.dimension)
        rows = await self._candidates(wanted, query, question)
        if not rows:
            return []
        found = await self._ranked(wanted, query, question, rows)
        by_id = {UUID(record_id(row.looked_at)).bytes: row for row in rows}
        hits: list[Hit] = []
        for key, one in found:
            memory = by_id[key].record
            if isinstance(memory, Memory):
                hits.append((memory, one))
        return hits

    async def _ranked(
        self, wanted: Recall, query: Query, question: Vector | None, rows: Sequence[Row]
    ) -> list[tuple[bytes, Found]]:
        ids = [UUID(record_id(row.looked_at)).bytes for row in rows]
        outlines = [row.outline for row in rows]
        candidates = unpacked_each(ids, outlines, self._embedder.dimension)

        def ranked() -> list[Found]:
            if question is None:
                return best_by_words(query, candidates, wanted.top_k)
            evidence = weigh(query, candidates)
            some = likeliest(evidence, candidates, question, wanted.top_k)
            vectors = np.concatenate([row.vectors for row in rows])
            near = cosines(candidates, some, vectors, question)
            return best(evidence, candidates, some, near, wanted.top_k, explain=wanted.explain)

        found = await aside(candidates, ranked)
        keys = candidates.keys(np.array([one.row for one in found], np.intp))
        return [*zip(keys, found, strict=True)]

    async def _candidates(self, wanted: Recall, query: Query, question: Vector | None) -> list[Row]:
        """Of the scope: all of a small one, and of a large one the likeliest."""
        return await self._reading.seen(
            hashed(wanted.user_id), lambda: self._read(wanted, query, question)
        )

    async def _read(self, wanted: Recall, query: Query, question: Vector | None) -> list[Row]:
        now = self._reading.now()
        scope = Scope.of(wanted, now)

        def has(row: Row) -> bool:
            record = row.looked_at
            return (
                isinstance(record, Memory)
                and record.user_id == wanted.user_id
                and wanted.has(record, now)
            )

        vectors = constant(self._embedder.dimension)[np.newaxis] if question is None else question
        near = await at_once(lambda vector: self._reading.nearest(scope, vector), [*vectors])
        found = await _those(has, near)
        if all(each.least is None for each in near):
            return found
        terms = [number for _, number in query.terms()]
        words = Scope.of(wanted, now).having(terms)
        if question is None:
            lexical = await self._reading.everything(words) if terms else []
            return await _those(has, [Near(found), Near(lexical)])
        if terms:
            near += await at_once(lambda vector: self._reading.nearest(words, vector), [*vectors])
            found = await _those(has, near)
        if len(found) < wanted.top_k or wanted.filter.metadata:
            # What Pinecone can't tell apart has filled its answers.
            found = await _those(has, [Near(found), Near(await self._reading.everything(scope))])
        return found


class KnowledgeSearch:
    """Searches the knowledge; `score` is (1 + cosine) / 2 of the nearest two windows."""

    def __init__(self, reading: Reading, embedder: Embedder) -> None:
        self._reading = reading
        self._embedder = embedder

    async def recall(self, wanted: RecallKnowledge) -> list[tuple[Knowledge, float]]:
        """The best, with their scores, ties newest first."""
        question = await self._embedder.embed_question(wanted.query)
        check_vectors([question], self._embedder.dimension)
        for last in [*[False] * (TRIES - 1), True]:
            found, whole = await self._found(wanted, question)
            if whole or last:
                break
        return found

    async def _found(
        self, wanted: RecallKnowledge, question: Vector
    ) -> tuple[list[tuple[Knowledge, float]], bool]:
        reading, now = self._reading, self._reading.now()
        began = to_microseconds(now)
        scope = Scope.of(wanted, now)

        def has(row: Row) -> bool:
            record = row.looked_at
            return isinstance(record, Knowledge) and wanted.has(record, now)

        near = await at_once(lambda vector: reading.nearest(scope, vector), [*question])
        farthest = max((each.least for each in near if each.least is not None), default=None)
        rows = await _those(has, near)
        while True:
            scores = await in_pieces(lambda row: nearest(question, row.vectors), rows)
            ranked = sorted(zip(scores, rows, strict=True), key=_order, reverse=True)
            hits, whole = await self._seen(ranked, wanted.top_k, began)
            enough = len(hits) == wanted.top_k and (
                farthest is None or 2 * hits[-1][1] - 1 > farthest + _TIE
            )
            if enough or farthest is None:
                return hits, whole
            rows, farthest = await _those(has, [Near(await reading.everything(scope))]), None

    async def _seen(
        self, ranked: Sequence[tuple[float, Row]], count: int, began: int
    ) -> tuple[list[tuple[Knowledge, float]], bool]:
        """The first so many that are seen, by the last puts of their documents alone."""
        hits: list[tuple[Knowledge, float]] = []
        namespace = self._reading.index.names.of(KNOWLEDGE)
        for start in range(0, len(ranked), count):
            some = ranked[start : start + count]
            rows, whole = await self._reading.puts.seen(namespace, [row for _, row in some], began)
            if not whole:
                return hits, False
            shown = {id(row) for row in rows}
            for score, row in some:
                record = row.record
                if id(row) in shown and isinstance(record, Knowledge):
                    hits.append((record, score))
            if len(hits) >= count:
                break
        return hits[:count], True


async def _those(has: Callable[[Row], bool], near: Sequence[Near]) -> list[Row]:
    """The rows that it `has`, each record once, in its latest version."""
    rows = latest_of([row for each in near for row in each.rows])
    kept = await in_pieces(has, rows)
    return [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]


def _order(scored: tuple[float, Row]) -> tuple[float, datetime, str]:
    score, row = scored
    return score, row.looked_at.created_at, record_id(row.looked_at)
