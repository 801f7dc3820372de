"""Ranks pending records among those that a driver recalled."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from app.core.memory.embedded import text_and_name
from app.core.memory.records import Key, Knowledge, Memory, Record, key_of, newest, record_id
from app.core.memory.requests import Recall, RecallKnowledge
from app.embedding import Embedder, Vector
from app.ranking.similarity import nearest
from app.ranking.words import share, words
from app.wrappers.overlay import Overlay

_VECTORS = 10_000
_EMBEDDED_AT_ONCE = 100

Kept = TypeVar("Kept", Memory, Knowledge)

_Version: TypeAlias = tuple[Key, datetime]
"""A record's owner and id, and its `updated_at`."""


class PendingRecall:
    """Ranks pending records among those that a driver recalled.

    Their `score` is (1 + cosine) / 2, or the share of the query's words with `use_vector=False`. A
    recall embeds at most 100 of them, the newest first; for one that has no vector yet, the share
    of words stands for the cosine.

    In that share every word counts alike: only the driver has all of the user's memories, and so
    knows which words are rare among them. All of the words score 1 and none 0 on both sides. With
    some of them, a pending memory that has the common ones stands higher among the driver's than
    it will once the driver has it, and one that has the rare ones lower.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: OrderedDict[_Version, Vector] = OrderedDict()

    async def recall(
        self, overlay: Overlay, found: Sequence[Memory], wanted: Recall
    ) -> list[Memory]:
        """`found` with the pending memories in their places, and without deleted ones."""
        pending = [
            record
            for record in overlay.kept.values()
            if isinstance(record, Memory) and wanted.has(record, overlay.now)
        ]
        if wanted.query is not None:
            pending = await self._scored(pending, wanted.query, wanted.use_vector)
        return _merged(overlay, found, pending, wanted.top_k)

    async def recall_knowledge(
        self, overlay: Overlay, found: Sequence[Knowledge], wanted: RecallKnowledge
    ) -> list[Knowledge]:
        """The same for knowledge."""
        pending = [
            record
            for record in overlay.kept.values()
            if isinstance(record, Knowledge) and wanted.has(record, overlay.now)
        ]
        scored = await self._scored(pending, wanted.query, use_vector=True)
        return _merged(overlay, found, scored, wanted.top_k)

    async def _scored(self, wanted: list[Kept], query: str, use_vector: bool) -> list[Kept]:
        if not wanted:
            return []
        if not use_vector:
            asked = words(query)
            shared = [(share(asked, words(record.content)), record) for record in wanted]
            return [replace(record, score=score) for score, record in shared if score > 0]
        await self._embedder.open()
        vectors = await self._embedded(wanted)
        question = await self._embedder.embed_question(query)
        asked = words(query)

        def score(record: Record) -> float:
            own = vectors.get(_version(record))
            if own is None:
                return (1 + share(asked, words(record.content))) / 2
            return nearest(question, own)

        return [replace(record, score=score(record)) for record in wanted]

    async def _embedded(self, wanted: Sequence[Record]) -> dict[_Version, Vector]:
        """The vectors of those records that have one by now."""
        new = [record for record in wanted if _version(record) not in self._vectors]
        if new := new[-_EMBEDDED_AT_ONCE:]:
            vectors = await self._embedder.embed_texts([text_and_name(record) for record in new])
            self._vectors.update(zip(map(_version, new), vectors, strict=True))
        known = [one for one in map(_version, wanted) if one in self._vectors]
        for one in known:
            self._vectors.move_to_end(one)
        found = {one: self._vectors[one] for one in known}
        while len(self._vectors) > _VECTORS:
            self._vectors.popitem(last=False)
        return found


def _version(record: Record) -> _Version:
    return key_of(record), record.updated_at


def _merged(
    overlay: Overlay,
    found: Sequence[Kept],
    wanted: Sequence[Kept],
    top_k: int,
) -> list[Kept]:
    merged = [record for record in found if not overlay.hides(record)]
    there = {record_id(record) for record in merged}
    merged += [record for record in wanted if record_id(record) not in there]
    merged.sort(
        key=lambda record: (record.score or 0.0, *newest(record)),
        reverse=True,
    )
    return merged[:top_k]
