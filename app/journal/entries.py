"""What the journal holds: one write of one user, or of knowledge."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal, Self

from app.core.memory.moments import EPOCH
from app.core.memory.records import Kept, Memory, Record, key_of, record_id
from app.core.memory.requests import Delete, Forget, Put, Replace

NOTHING: Final = EPOCH
"""Given as the version that a store replaces, where nothing may be there."""

Verb = Literal[
    "store", "delete", "delete_user", "store_knowledge", "delete_knowledge", "put_document"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write to be made on several drivers, in any order and more than once.

    `user_id` is None for knowledge, and for the delete of a memory whoever owns it.
    """

    verb: Verb
    user_id: str | None = None
    record_id: str | None = None
    """What a delete of one record deletes."""
    records: Sequence[Record] = ()
    """What a store or an update keeps."""
    before: datetime | None = None
    """Up to which moment a `delete_user` deletes, or a `put_document` replaces."""
    doc_id: str | None = None
    """Of which document a `put_document` is."""
    replaces: datetime | None = None
    """Of an update, the version (`updated_at`) that the first driver must still have.

    Of a store under a caller's id it is `NOTHING`. None for every other write, and when it is
    decided that the write happens.
    """

    @property
    def stores(self) -> bool:
        """Whether it keeps records and deletes none."""
        return self.verb in ("store", "store_knowledge")

    @property
    def once(self) -> bool:
        """Whether it stores a record that the first driver keeps only where nothing is there."""
        return self.stores and self.replaces == NOTHING

    def deletes(self, record: Record) -> bool:
        """Whether it is a delete that reaches the record, or a put that replaces it."""
        if self.verb == "put_document":
            return as_put(self).replaces(record)
        mine = isinstance(record, Memory)
        if self.verb == "delete_user":
            before = self.before
            assert before is not None  # noqa: S101 - a forget has a moment
            return mine and key_of(record)[0] == self.user_id and record.created_at <= before
        if self.verb != ("delete" if mine else "delete_knowledge"):
            return False
        return self.record_id == record_id(record) and self.user_id in (None, key_of(record)[0])

    @property
    def deleted_by(self) -> Verb:
        """What deletes one of the records that it keeps."""
        return "delete_knowledge" if self.user_id is None else "delete"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Write):
    """A write in the journal."""

    seq: int
    """Its place: larger is later."""
    created_at: float
    """Seconds since the epoch."""
    pending_for: frozenset[str] = frozenset()
    """The drivers that it is pending for; empty where the reader did not need them."""
    killed_by: tuple["Write", ...] = ()
    """The deletes of such of its records as are deleted by now; empty where nobody asked."""

    def without(self, deletes: Sequence[Write]) -> Self:
        """The same without the records that these delete."""
        if not deletes:
            return self
        alive = [
            record for record in self.records if not any(each.deletes(record) for each in deletes)
        ]
        return replace(self, records=alive, killed_by=tuple(deletes))


@dataclass(frozen=True, slots=True)
class Span:
    """The places of some entries."""

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Lag:
    """What is pending for one driver."""

    count: int = 0
    """Writes."""
    oldest: float = 0.0
    """Age of the oldest in seconds; 0 without any."""
    dead_letters: int = 0
    """How many of these are dead letters."""

    def __str__(self) -> str:
        return "1 write waits" if self.count == 1 else f"{self.count} writes wait"


def deletes_of(wanted: Delete | Forget) -> list[Write]:
    """The writes that delete what is wanted: one for each record."""
    if isinstance(wanted, Forget):
        return [Write(verb="delete_user", user_id=wanted.user_id, before=wanted.before)]
    verb: Verb = "delete" if wanted.kind == "memory" else "delete_knowledge"
    return [Write(verb=verb, user_id=wanted.user_id, record_id=each) for each in wanted.ids]


def put_of(wanted: Put[Kept]) -> Write:
    """The write that replaces a document."""
    return Write(
        verb="put_document",
        user_id=wanted.user_id,
        records=wanted.records,
        before=wanted.before,
        doc_id=wanted.doc_id,
    )


def as_put(write: Write) -> Put[Record]:
    """What `put_of` made the write of."""
    return Put(write.doc_id or "", write.records, write.user_id, write.before)


def update_of(wanted: Replace[Kept]) -> Write:
    """The write that replaces a record, if the first driver still has what it replaces."""
    (write,) = stores_of([wanted.record])
    return replace(write, replaces=wanted.over)


def once_of(records: Iterable[Record]) -> list[Write]:
    """Writes that keep the records where nothing is there: one for each, in their order."""
    return [replace(write, replaces=NOTHING) for record in records for write in stores_of([record])]


def stores_of(records: Iterable[Record]) -> list[Write]:
    """Writes that keep the records: one for each user, and one for knowledge."""
    memories: dict[str, list[Record]] = {}
    knowledge: list[Record] = []
    for record in records:
        if isinstance(record, Memory):
            memories.setdefault(record.user_id, []).append(record)
        else:
            knowledge.append(record)
    writes = [
        Write(verb="store", user_id=user_id, records=own) for user_id, own in memories.items()
    ]
    if knowledge:
        writes.append(Write(verb="store_knowledge", records=knowledge))
    return writes
