"""What the journal still holds, laid over what a driver answers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from app.core.memory.cursor import Cursor, page
from app.core.memory.records import Memory, MemoryPage, Record, record_id
from app.core.memory.requests import Page
from app.journal.entries import Entry


@dataclass(slots=True)
class Overlay:
    """The writes that concern one user, or knowledge. Their order does not matter."""

    kept: dict[str, Record] = field(default_factory=dict)
    """Records that a driver may not have yet, by id, each as it was updated last."""
    created: set[str] = field(default_factory=set)
    """Of these, the ids of those that no driver may have had before."""
    deleted: set[str] = field(default_factory=set)
    """Ids of records that a driver may still have."""
    forgotten: datetime | None = None
    """Up to which moment the user's memories are gone."""

    @classmethod
    def of(cls, entries: Iterable[Entry], driver: str, *, stored_by_all: bool) -> "Overlay":
        """What the entries change in what the driver of that name answers.

        Their records are not deleted. `stored_by_all`: a driver that does not wait for a store has
        it; otherwise no driver has what is in the journal.
        """
        overlay = cls()
        for entry in entries:
            waits = driver in entry.pending_for
            if waits:
                overlay.deleted |= entry.killed  # it may be there until its dispatcher has looked
            if entry.replaces is not None:
                continue  # nobody was told that this update happens
            if entry.stores:
                if waits or not stored_by_all:
                    overlay._keep(entry.records)
            elif waits and entry.before is not None:
                overlay.forgotten = max(entry.before, overlay.forgotten or entry.before)
            elif waits and entry.record_id is not None:
                overlay.deleted.add(entry.record_id)
        return overlay

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.updated_at == record.created_at:
                self.created.add(record_id(record))
            known = self.kept.get(record_id(record))
            if known is None or known.updated_at < record.updated_at:
                self.kept[record_id(record)] = record

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.kept or self.deleted or self.forgotten)

    def room(self, top_k: int, most: int) -> int:
        """How many records to ask the driver for, so that `top_k` are left of them; up to `most`.

        What was forgotten can't be counted.
        """
        updated = sum(record.updated_at > record.created_at for record in self.kept.values())
        more = most if self.forgotten is not None else top_k + len(self.deleted) + updated
        return max(top_k, min(most, more))

    def hides(self, record: Record) -> bool:
        """Whether a driver's record is gone, or is not as it was updated last."""
        kept = self.kept.get(record_id(record))
        if kept is not None:
            return record.updated_at < kept.updated_at
        forgotten = self.forgotten is not None and record.created_at <= self.forgotten
        return forgotten or record_id(record) in self.deleted

    def replaces(self, record: Record) -> bool:
        """Whether a driver's record is gone, or is among `kept`."""
        return record_id(record) in self.kept or self.hides(record)


class Overlays:
    """An overlay for each user that the entries concern, and one for knowledge."""

    def __init__(self, entries: Iterable[Entry], driver: str, *, stored_by_all: bool) -> None:
        """What the entries change in the answers of that driver, as `Overlay.of` has it."""
        own: dict[str | None, list[Entry]] = {}
        anyones: list[Entry] = []
        for entry in entries:
            if entry.verb == "delete" and entry.user_id is None:
                anyones.append(entry)
                for its in own.values():
                    its.append(entry)
            else:
                own.setdefault(entry.user_id, list(anyones)).append(entry)

        def of(its: Iterable[Entry]) -> Overlay:
            return Overlay.of(its, driver, stored_by_all=stored_by_all)

        self._of_user = {user: of(its) for user, its in own.items()}
        self._of_others = of(anyones)

    def __getitem__(self, record: Record) -> Overlay:
        user = record.user_id if isinstance(record, Memory) else None
        return self._of_user.get(user, self._of_others)

    def kept(self) -> Iterator[Record]:
        """All the records that the driver may not have yet."""
        for overlay in self._of_user.values():
            yield from overlay.kept.values()


def kept_memory(entries: Iterable[Entry], memory_id: str) -> Memory | None:
    """The memory as the entries keep it, whoever owns it; None where they do not."""
    kept: Memory | None = None
    for entry in entries:
        for record in entry.records:
            if isinstance(record, Memory) and record.memory_id == memory_id:
                newer = kept is None or kept.updated_at < record.updated_at
                kept = record if newer else kept
    return kept


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
