"""Knowledge, found by its vectors."""

from collections.abc import Callable
from datetime import datetime
from typing import Final

from app.core.memory.embedded import check_vectors
from app.core.memory.records import Knowledge
from app.core.memory.requests import RecallKnowledge
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import MOST, equal, every
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.layout import KNOWLEDGE, milliseconds, object_id
from app.drivers.weaviate.puts import OF_PUTS, Puts
from app.drivers.weaviate.reading import record_of, scope
from app.embedding import Embedder, Vector
from app.pieces import in_pieces

_TIE = 2e-6
"""Distances that differ by less may be of equal texts: they are float32."""
_DECIMALS = 6
_WANTED: Final = ("key", "window", "version", "record", *OF_PUTS)

Ranked = dict[str, tuple[Knowledge, float]]


class KnowledgeSearch:
    """Searches the knowledge.

    Every search has a filter, so that Weaviate compares all that it lets through, up to the
    collection's `flatSearchCutoff`; beyond that it is approximate.
    """

    def __init__(
        self,
        database: Database,
        puts: Puts,
        embedder: Embedder,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._puts = puts
        self._embedder = embedder
        self._now = now

    async def recall(self, wanted: RecallKnowledge) -> list[tuple[Knowledge, float]]:
        """The best, with their scores: (1 + cosine) / 2 of the nearest two windows, ties newest
        first."""
        question = await self._embedder.embed_question(wanted.query)
        check_vectors([question], self._embedder.dimension)
        found: Ranked = {}
        for vector in question:
            for key, (record, score) in (await self._best(wanted, vector)).items():
                if key not in found or found[key][1] < score:
                    found[key] = record, score

        def order(hit: tuple[Knowledge, float]) -> tuple[float, datetime, str]:
            return hit[1], hit[0].created_at, hit[0].knowledge_id

        return sorted(found.values(), key=order, reverse=True)[: wanted.top_k]

    async def _best(self, wanted: RecallKnowledge, vector: Vector) -> Ranked:
        """Those among which the best are, by their ids, for one window of the question.

        Reads on until there are enough that the filter lets through, and a worse one.
        """
        now = self._now()
        filters = scope(wanted.category, wanted.doc_id, milliseconds(now), wanted.filter)
        of_all = every(equal("owner", KNOWLEDGE), *filters)
        count = 2 * wanted.top_k + 1
        while True:

            async def read(count: int = count) -> list[Row]:
                rows = await self._database.search(
                    self._database.names.knowledge, of_all, _WANTED, count, near=vector
                )
                return await self._with_records(rows)

            rows, is_shown = await self._puts.read(KNOWLEDGE, read)
            distances = [row.distance for row in rows if row.distance is not None]
            found = await self._ranked(wanted, [row for row in rows if is_shown(row)], now)
            ranked = sorted((score for _, score in found.values()), reverse=True)[: wanted.top_k]
            enough = (
                len(ranked) == wanted.top_k
                and len(distances) > 0
                and _score(max(distances)) < ranked[-1] - _TIE
            )
            if len(distances) < count or enough or count == MOST:
                return found
            count = min(4 * count, MOST)

    async def _with_records(self, rows: list[Row]) -> list[Row]:
        """The windows, and the objects of those records that are not among them."""
        there = {row.texts["key"] for row in rows if row.numbers.get("window") == 0}
        lacking = {row.texts["key"] for row in rows} - there
        if not lacking:
            return rows
        ids = [object_id(KNOWLEDGE, key) for key in sorted(lacking)]
        return rows + await self._database.by_ids(self._database.names.knowledge, ids, _WANTED)

    async def _ranked(self, wanted: RecallKnowledge, rows: list[Row], now: datetime) -> Ranked:
        """The records of the windows that the recall wants, each with its best score."""
        own = [row for row in rows if row.numbers.get("window") == 0]
        records = dict(
            zip((row.texts["key"] for row in own), await in_pieces(record_of, own), strict=True)
        )
        versions = {row.texts["key"]: row.texts["version"] for row in own}
        found: Ranked = {}
        for row in rows:
            key = row.texts["key"]
            record = records.get(key)
            if row.distance is None or not isinstance(record, Knowledge):
                continue
            if row.texts["version"] != versions[key] or not wanted.has(record, now):
                continue  # of a version that is being written, or that was
            score = _score(row.distance)
            if key not in found or found[key][1] < score:
                found[key] = record, score
        return found


def _score(distance: float) -> float:
    return round(min(1.0, max(0.0, 1 - distance / 2)), _DECIMALS)
