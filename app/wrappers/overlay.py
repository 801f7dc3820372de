"""What is pending in the journal, laid over what a driver answers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias, TypeVar

from app.core.memory.cursor import cut
from app.core.memory.moments import EPOCH, MICROSECOND
from app.core.memory.records import (
    Kept,
    Knowledge,
    Memory,
    Record,
    document_of,
    is_alive,
    place_of_owner,
    position_of,
    record_id,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Listing,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
)
from app.journal.entries import Entry, Write

Part: TypeAlias = tuple[list[Kept], str | None]
"""Records of a list, and the cursor that continues it; None at its end."""

Narrowed = TypeVar("Narrowed", Recall, RecallKnowledge, Page)


@dataclass(frozen=True, slots=True)
class Waiting:
    """The ids of those records to be deleted that are pending for a driver."""

    pending: frozenset[str] = frozenset()
    created: frozenset[str] = frozenset()
    """Of these, those that are stored, not updated: no driver may have had them."""

    def counted_with(self, deleted: int) -> int:
        """How many records there were, where a driver had, and deleted, so many."""
        return max(deleted + len(self.created), len(self.pending))


@dataclass(slots=True)
class Overlay:
    """What pending writes change in the records of one user, or in knowledge.

    The order of the writes does not matter.
    """

    now: datetime = EPOCH
    """When a record counts as expired."""
    kept: dict[str, Record] = field(default_factory=dict)
    """By id, the latest version of each record that the driver may lack, expired or not."""
    created: set[str] = field(default_factory=set)
    """Of these, the ids of those that are stored, not updated."""
    deleted: set[str] = field(default_factory=set)
    """Ids of deleted records, which the driver may still have."""
    forgotten: datetime | None = None
    """The moment up to which the user's memories are deleted; None without a forget."""
    documents: dict[str, datetime] = field(default_factory=dict)
    """By document that was put, the moment up to which others of its records are replaced."""

    @classmethod
    def of(
        cls, entries: Iterable[Entry], driver: str, now: datetime, *, stored_by_all: bool
    ) -> "Overlay":
        """What the entries change in the answers that the driver of that name gives `now`.

        No entry has a record that is deleted. `stored_by_all`: every driver gets every store, so
        that a driver lacks only what is pending for it, as of puts it always does; otherwise stores
        reach the primary alone, and every driver lacks what is in the journal.
        """
        overlay = cls(now)
        for entry in entries:
            waits = driver in entry.pending_for
            if waits:
                for each in entry.killed_by:  # it may be there until its dispatcher has looked
                    overlay._delete(each)
            if entry.replaces is not None and (stored_by_all or not entry.once):
                continue  # nobody was told that this happens
            if entry.stores and (waits or not stored_by_all):
                overlay._keep(entry.records)
            elif waits:
                overlay._delete(entry)
        return overlay

    def _delete(self, write: Write) -> None:
        if write.doc_id is not None and write.before is not None:
            self._keep(write.records)
            known = self.documents.get(write.doc_id, write.before)
            self.documents[write.doc_id] = max(write.before, known)
        elif write.before is not None:
            self.forgotten = max(write.before, self.forgotten or write.before)
        elif write.record_id is not None:
            self.deleted.add(write.record_id)

    def _keep(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.updated_at == record.created_at:
                self.created.add(record_id(record))
            known = self.kept.get(record_id(record))
            if known is None or known.updated_at < record.updated_at:
                self.kept[record_id(record)] = record

    def replaced_by(self, wanted: Put[Kept]) -> int:
        """How many records that no driver may have had before are to give way."""
        mine = map(self.shown, self.created)
        return sum(each is not None and wanted.replaces(each) for each in mine)

    def waiting(self, wanted: Delete | Forget) -> Waiting:
        """The pending ones of the records that are to be deleted."""
        if isinstance(wanted, Delete):
            pending = {one for one in wanted.ids if self.shown(one) is not None}
        else:
            shown = ((one, self.shown(one)) for one in self.kept)
            pending = {
                one
                for one, record in shown
                if isinstance(record, Memory) and wanted.reaches(record)
            }
        return Waiting(frozenset(pending), frozenset(pending & self.created))

    def shown(self, one: str) -> Record | None:
        """The pending record of that id, unless it has expired."""
        record = self.kept.get(one)
        return record if record is not None and is_alive(record, self.now) else None

    @property
    def empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.kept or self.deleted or self.forgotten or self.documents)

    def narrowed(self, wanted: Narrowed) -> Narrowed:
        """The request without what the deletion of the user hides."""
        if self.forgotten is None:
            return wanted
        created = wanted.filter.created
        start = self.forgotten + MICROSECOND
        if created.start is not None:
            start = max(start, created.start)
        return replace(wanted, filter=replace(wanted.filter, created=replace(created, start=start)))

    def room(self, top_k: int, most: int) -> int:
        """How many records to ask the driver for, so that `top_k` are left; `most` at most.

        It is `most` where a user was forgotten, or a document put: how many of the records that
        hides is not known.
        """
        updated = sum(record.updated_at > record.created_at for record in self.kept.values())
        if self.forgotten is not None or self.documents:
            return max(top_k, most)
        return max(top_k, min(most, top_k + len(self.deleted) + updated))

    def since_put(self, found: Iterable[Record]) -> "Overlay":
        """The same without puts of a document that the answer has a later put of.

        That one may have reached the driver after the entries were read, and before the answer.
        """
        given = self.of_puts(found)
        if not given:
            return self
        puts = LatestPuts(given)
        kept = {one: record for one, record in self.kept.items() if not puts.outdate(record)}
        return replace(self, kept=kept)

    def of_puts(self, found: Iterable[Kept]) -> list[Kept]:
        """Those of documents of which a put is pending."""
        if not self.documents:
            return []
        return [record for record in found if document_of(record) in self.documents]

    def hides(self, record: Record) -> bool:
        """Whether the driver's record is deleted, or older than the pending version."""
        kept = self.kept.get(record_id(record))
        if kept is not None:
            return record.updated_at < kept.updated_at
        if self.forgotten is not None and record.created_at <= self.forgotten:
            return True
        put = self.documents.get(document_of(record) or "")
        replaced = put is not None and record.created_at <= put
        return replaced or record_id(record) in self.deleted


class LatestPuts:
    """Which put of each document is the latest, among the records that a driver gave."""

    def __init__(self, given: Iterable[Record] = ()) -> None:
        self._moments: dict[tuple[str | None, str], datetime] = {}
        for record in given:
            self.note(record)

    def note(self, record: Record) -> None:
        """Tell it of a record that the driver gave."""
        put = _put_of(record)
        if put is not None:
            moment = self._moments.get(put, record.created_at)
            self._moments[put] = max(record.created_at, moment)

    def outdate(self, record: Record) -> bool:
        """Whether a later put than the record's own was among them."""
        put = _put_of(record)
        moment = self._moments.get(put) if put is not None else None
        return moment is not None and record.created_at < moment


def _put_of(record: Record) -> tuple[str | None, str] | None:
    """The owner and the document that was put; None of a record that was stored beside it."""
    document = document_of(record)
    if document is None or position_of(record) is None:
        return None
    return (record.user_id if isinstance(record, Memory) else None), document


def came_amid(answers: Sequence[Sequence[Record]]) -> bool:
    """Whether an answer has a later put of a document than one before it has."""
    before: list[Record] = []
    for answer in answers:
        puts = LatestPuts(answer)
        if any(puts.outdate(record) for record in before):
            return True
        before.extend(answer)
    return False


class Overlays:
    """An overlay for each user that the entries concern, and one for knowledge."""

    def __init__(
        self, entries: Iterable[Entry], driver: str, now: datetime, *, stored_by_all: bool
    ) -> None:
        """What the entries change in the answers of that driver; arguments as of `Overlay.of`."""
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
            return Overlay.of(its, driver, now, stored_by_all=stored_by_all)

        self._of_user = {user: of(its) for user, its in own.items()}
        self._of_others = of(anyones)

    def __getitem__(self, record: Record) -> Overlay:
        user = record.user_id if isinstance(record, Memory) else None
        return self._of_user.get(user, self._of_others)

    def kept(self, wanted: Export, now: datetime) -> list[Record]:
        """Those that the driver may lack, and that are alive `now`, in the export's order."""
        found = [
            record
            for overlay in self._of_user.values()
            for record in overlay.kept.values()
            if is_alive(record, now) and wanted.includes(record)
        ]
        return sorted(found, key=place_of_owner)


def kept_memory(entries: Iterable[Entry], memory_id: str) -> Memory | None:
    """The latest version of the memory in the entries, whoever owns it; None without one."""
    records = (record for entry in entries for record in entry.records)
    versions = (r for r in records if isinstance(r, Memory) and r.memory_id == memory_id)
    return max(versions, key=lambda memory: memory.updated_at, default=None)


def paged(overlay: Overlay, found: Part[Memory], wanted: Page) -> Part[Memory]:
    """A driver's part of a list with the pending memories in their places, without deleted ones."""
    pending = [each for each in overlay.kept.values() if isinstance(each, Memory)]
    pending = [each for each in pending if wanted.has(each, overlay.now)]
    return _laid_over(overlay, *found, wanted, pending)


def paged_knowledge(
    overlay: Overlay, found: Part[Knowledge], wanted: PageKnowledge
) -> Part[Knowledge]:
    """The same for knowledge."""
    pending = [each for each in overlay.kept.values() if isinstance(each, Knowledge)]
    pending = [each for each in pending if wanted.has(each, overlay.now)]
    return _laid_over(overlay, *found, wanted, pending)


def _laid_over(
    overlay: Overlay,
    found: Sequence[Kept],
    next_cursor: str | None,
    wanted: Listing,
    pending: Sequence[Kept],
) -> Part[Kept]:
    last = wanted.read_cursor(next_cursor) if next_cursor is not None else None
    shown = {record_id(record): record for record in found if not overlay.hides(record)}
    for record in pending:
        is_next = last is not None and wanted.comes_after(record, last)
        if wanted.comes_after(record, wanted.after) and not is_next:
            shown[record_id(record)] = record
    merged = wanted.in_order(shown.values())
    if len(merged) > wanted.limit:
        return cut(merged, wanted.limit, wanted.place)
    return merged, next_cursor
