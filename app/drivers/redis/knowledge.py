"""Knowledge, found by the index and ranked exactly."""

from collections.abc import Callable, Sequence
from datetime import datetime

from app.core.memory.embedded import check_vectors
from app.core.memory.records import Knowledge, Record
from app.core.memory.requests import RecallKnowledge
from app.drivers.redis.database import Database
from app.drivers.redis.layout import KNOWLEDGE, decoded, digits, hashed
from app.embedding import Vector
from app.pieces import in_pieces

_TIE = 2e-6
"""Distances that differ by less may be of equal texts: Redis rounds them."""
_SECONDS = 12
"""Digits of a moment that count whole seconds: what the index knows of an expiry."""
_DECIMALS = 6
_TRIES = 5
"""How often a search is made again while others delete what it finds."""


class KnowledgeSearch:
    """Searches the knowledge of a namespace."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._embedder = database.embedder
        self._now = now

    async def recall(self, wanted: RecallKnowledge) -> list[tuple[Knowledge, float]]:
        """The best, with their scores: (1 + cosine) / 2 of the nearest two windows, ties newest
        first."""
        question = await self._embedder.embed_question(wanted.query)
        check_vectors([question], self._embedder.dimension)
        found: dict[bytes, tuple[Knowledge, float]] = {}
        for vector in question:
            for one, (record, score) in (await self._best(wanted, vector)).items():
                if one not in found or found[one][1] < score:
                    found[one] = record, score

        def order(hit: tuple[Knowledge, float]) -> tuple[float, object, str]:
            return hit[1], hit[0].created_at, hit[0].knowledge_id

        return sorted(found.values(), key=order, reverse=True)[: wanted.top_k]

    async def _best(
        self, wanted: RecallKnowledge, vector: Vector
    ) -> dict[bytes, tuple[Knowledge, float]]:
        """Those among which the best are, by their ids, for one window of the question.

        Reads on until there are enough that the filter lets through, and a worse one.
        """
        now = self._now()
        clauses = _clauses(wanted, digits(now))
        count, tries = 2 * wanted.top_k + 1, _TRIES
        records: dict[bytes, Knowledge | None] = {}
        while True:
            windows = await self._database.nearest(vector, clauses, count)
            distances: dict[bytes, float] = {}
            for one, distance in windows:
                distances.setdefault(one, distance)
            new = [one for one in distances if one not in records]
            records |= zip(new, await self._records(new), strict=True)
            if tries and any(records[one] is None for one in distances):
                tries -= 1  # a document was replaced meanwhile: nobody sees a part of either
                records = {}
                continue
            hits = {
                one: (record, distance)
                for one, distance in distances.items()
                if (record := records[one]) is not None and wanted.has(record, now)
            }
            ranked = sorted(distance for _, distance in hits.values())[: wanted.top_k]
            enough = len(ranked) == wanted.top_k and windows[-1][1] > ranked[-1] + _TIE
            if len(windows) < count or enough:
                return {one: (record, _score(away)) for one, (record, away) in hits.items()}
            count *= 4

    async def _records(self, ids: Sequence[bytes]) -> list[Knowledge | None]:
        if not ids:
            return []
        key = self._database.names.of("r", KNOWLEDGE)
        [values] = await self._database.ask(("HMGET", key, *ids))

        def read(value: bytes | None) -> Knowledge | None:
            record: Record | None = None if value is None else decoded(value)
            return record if isinstance(record, Knowledge) else None

        return await in_pieces(read, values)


def _clauses(wanted: RecallKnowledge, now: str) -> str:
    """What a window must have, in Redis's language: nothing of a caller's is in it but hashes."""
    clauses = ["@k:{1}", f"@x:[{now[:_SECONDS]} +inf]"]
    if wanted.category is not None:
        clauses.append(f"@c:{{{hashed(wanted.category)}}}")
    if wanted.doc_id is not None:
        clauses.append(f"@d:{{{hashed(wanted.doc_id)}}}")
    return " ".join(clauses)


def _score(distance: float) -> float:
    return round(min(1.0, max(0.0, 1 - distance / 2)), _DECIMALS)
