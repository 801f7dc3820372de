"""What the journal still holds, laid over what a driver answers."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from app.core.memory.cursor import Cursor, page
from app.core.memory.records import Knowledge, Memory, MemoryPage, Record, record_id
from app.core.memory.requests import Page, Recall, RecallKnowledge
from app.embedding import Embedder, Vector
from app.journal.entries import Entry
from app.ranking.similarity import similarity
from app.ranking.words import share, words

_VECTORS = 10_000
_EMBEDDED_AT_ONCE = 100

Kept = TypeVar("Kept", Memory, Knowledge)


@dataclass(slots=True)
class Overlay:
    """The writes that concern one user, or knowledge, in their order."""

    kept: dict[str, Record] = field(default_factory=dict)
    """Records that a driver may not have yet, by id."""
    deleted: set[str] = field(default_factory=set)
    """Ids of records that a driver may still have."""
    forgotten: float = 0.0
    """When the user was last deleted: what is older is gone; seconds since the epoch."""

    @classmethod
    def of(cls, entries: Iterable[Entry], driver: str) -> "Overlay":
        """What the entries, oldest first, change in what the driver of that name answers."""
        overlay = cls()
        for entry in entries:
            if entry.stores:
                kept = {record_id(record): record for record in entry.records}
                overlay.kept.update(kept)
                overlay.deleted.difference_update(kept)
                continue
            pending = driver in entry.pending_for
            if entry.verb == "delete_user":
                overlay.kept.clear()
                if pending:
                    overlay.forgotten = entry.created_at
            elif entry.record_id is not None:
                mine = overlay.kept.get(entry.record_id)
                if not isinstance(mine, Memory) or entry.user_id in (None, mine.user_id):
                    overlay.kept.pop(entry.record_id, None)
                    if pending:
                        overlay.deleted.add(entry.record_id)
        return overlay

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.kept or self.deleted or self.forgotten)

    def hides(self, record: Record) -> bool:
        """Whether a driver's record is gone."""
        one = record_id(record)
        older = record.created_at.timestamp() < self.forgotten
        return one in self.deleted or (older and one not in self.kept)

    def replaces(self, record: Record) -> bool:
        """Whether a driver's record is gone, or is among `kept`."""
        return record_id(record) in self.kept or self.hides(record)


class Overlays:
    """An overlay for each user that the entries concern, and one for knowledge."""

    def __init__(self, entries: Iterable[Entry], driver: str) -> None:
        """`entries` are oldest first; what they change in the answers of that driver."""
        own: dict[str | None, list[Entry]] = {}
        anyones: list[Entry] = []
        for entry in entries:
            if entry.verb == "delete" and entry.user_id is None:
                anyones.append(entry)
                for its in own.values():
                    its.append(entry)
            else:
                own.setdefault(entry.user_id, list(anyones)).append(entry)
        self._of_user = {user: Overlay.of(its, driver) for user, its in own.items()}
        self._of_others = Overlay.of(anyones, driver)

    def __getitem__(self, record: Record) -> Overlay:
        user = record.user_id if isinstance(record, Memory) else None
        return self._of_user.get(user, self._of_others)

    def kept(self) -> Iterator[Record]:
        """All the records that the driver may not have yet."""
        for overlay in self._of_user.values():
            yield from overlay.kept.values()


def kept_memory(entries: Iterable[Entry], memory_id: str) -> Memory | None:
    """The memory as the entries, oldest first, keep it; None where they do not."""
    kept: Memory | None = None
    for entry in entries:
        if entry.stores:
            for record in entry.records:
                if isinstance(record, Memory) and record.memory_id == memory_id:
                    kept = record
        elif (
            kept is not None
            and entry.record_id in (None, memory_id)
            and entry.user_id in (None, kept.user_id)
        ):
            kept = None
    return kept


class Pending:
    """Answers reads of records that are in the journal, and merges both answers.

    Their `score` is (1 + cosine) / 2, or the share of the query's words with `use_vector=False`. A
    recall embeds 100 of them at most, the newest first; until others have their turn, the share of
    words stands for their cosine.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._vectors: OrderedDict[str, Vector] = OrderedDict()

    async def recall(
        self, overlay: Overlay, found: Sequence[Memory], wanted: Recall
    ) -> list[Memory]:
        """`found` with the pending memories in their places, and without deleted ones."""
        excluded = set(wanted.exclude_tags)
        pending = [
            record
            for record in overlay.kept.values()
            if isinstance(record, Memory)
            and wanted.conversation_id in (None, record.conversation_id)
            and excluded.isdisjoint(record.tags)
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
            if isinstance(record, Knowledge) and wanted.category in (None, record.category)
        ]
        scored = await self._scored(pending, wanted.query, use_vector=True)
        return _merged(overlay, found, scored, wanted.top_k)

    async def _scored(self, wanted: list[Kept], query: str, use_vector: bool) -> list[Kept]:
        if not wanted:
            return []
        if not use_vector:
            asked = words(query)
            shared = [(share(asked, record.content), record) for record in wanted]
            return [replace(record, score=score) for score, record in shared if score > 0]
        vectors = await self._embedded(wanted)
        vector = await self._embedder.embed_query(query)
        asked = words(query)

        def score(record: Record) -> float:
            own = vectors.get(record_id(record))
            if own is None:
                return (1 + share(asked, record.content)) / 2
            return similarity(vector, own)

        return [replace(record, score=score(record)) for record in wanted]

    async def _embedded(self, wanted: Sequence[Record]) -> dict[str, Vector]:
        """The vectors of the records that have one by now."""
        new = [record for record in wanted if record_id(record) not in self._vectors]
        if new := new[-_EMBEDDED_AT_ONCE:]:
            vectors = await self._embedder.embed([record.content for record in new])
            self._vectors.update(
                {record_id(record): v for record, v in zip(new, vectors, strict=True)}
            )
        ids = [record_id(record) for record in wanted if record_id(record) in self._vectors]
        for one in ids:
            self._vectors.move_to_end(one)
        found = {one: self._vectors[one] for one in ids}
        while len(self._vectors) > _VECTORS:
            self._vectors.popitem(last=False)
        return found


def paged(overlay: Overlay, found: MemoryPage, wanted: Page) -> MemoryPage:
    """A driver's page with the pending memories in their places, and without deleted ones."""
    conversation, end = wanted.conversation_id, wanted.after
    shown = {m.memory_id: m for m in found.memories if not overlay.hides(m)}
    last = Cursor.after(found.memories[-1]) if found.next_cursor is not None else None
    for record in overlay.kept.values():
        if not isinstance(record, Memory) or conversation not in (None, record.conversation_id):
            continue
        place = Cursor.after(record)
        if (end is None or place < end) and (last is None or place > last):
            shown[record.memory_id] = record
    merged = sorted(shown.values(), key=Cursor.after, reverse=True)
    if len(merged) > wanted.limit:
        return page(merged[: wanted.limit + 1], wanted.limit)
    return MemoryPage(merged, found.next_cursor)


def _merged(
    overlay: Overlay,
    found: Sequence[Kept],
    wanted: Sequence[Kept],
    top_k: int,
) -> list[Kept]:
    there = {record_id(record) for record in found}
    merged = [record for record in found if not overlay.hides(record)]
    merged += [record for record in wanted if record_id(record) not in there]
    merged.sort(
        key=lambda record: (record.score or 0.0, record.created_at, record_id(record)),
        reverse=True,
    )
    return merged[:top_k]
