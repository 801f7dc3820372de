"""What a driver is asked for: checked values, which wrapping drivers hand on as they are.

`RecordDriver` makes them; a field that is added here reaches every driver.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final, Generic, Literal, Self, TypeAlias

from app.core.memory.clock import ids_at
from app.core.memory.cursor import Cursor, DocumentCursor, Place, after_user, cut
from app.core.memory.derived import Derived
from app.core.memory.filter import EVERYTHING, Filter
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    Version,
    document_of,
    is_alive,
    key_of,
    position_of,
    version_of,
)
from app.embedding import Model

Kind = Literal["memory", "knowledge"]

_MILLISECOND: Final = timedelta(milliseconds=1)

Given: TypeAlias = Mapping[Version, Derived]
"""What a driver need not make of a record, by the version that it is of."""


@dataclass(frozen=True, slots=True)
class Recency:
    """How much it counts that a memory is new: weight * 0.5 ** (its age in days / half_life_days).

    A memory of this moment gets `weight` points, 0..0.2, and one that is `half_life_days` old half
    of them.
    """

    half_life_days: float
    weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A user's memories, best first; without a `query`, newest first.

    Only memories of `conversation_id`, if given, that the `filter` lets through take part. With
    `explain` each has its `explanation` where vectors took part. `recency` counts there too, and
    only there. `as_of` has an offset: its day is the one that "yesterday" in the query is the day
    before; None: now.
    """

    user_id: str
    conversation_id: str | None = None
    query: str | None = None
    top_k: int = 10
    use_vector: bool = True
    filter: Filter = EVERYTHING
    explain: bool = False
    recency: Recency | None = None
    as_of: datetime | None = None

    def has(self, memory: Memory, now: datetime) -> bool:
        """Whether the user's memory takes part."""
        return _is_in(self, memory, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallKnowledge:
    """Knowledge, best first: of `category` and `doc_id` if given, and as the `filter` has it."""

    query: str
    top_k: int = 5
    category: str | None = None
    doc_id: str | None = None
    filter: Filter = EVERYTHING

    def has(self, knowledge: Knowledge, now: datetime) -> bool:
        """Whether the knowledge takes part."""
        return _takes_part(self, knowledge, now)


@dataclass(frozen=True, slots=True)
class Keep(Generic[Kept]):
    """Records to insert; each replaces an older version of itself, by `updated_at`.

    A record that the driver has in the same version, or in a later one, stays as it is: so a second
    delivery changes nothing, and the order of deliveries does not matter. `new`: nobody has used
    the ids before, so that the driver need not look for them; it keeps all of the records or none.

    `once`: each is kept only where nothing that has not expired is under its id. Else the record
    that is there is the answer, `repeated`, if it has the same `request`; if not, the driver keeps
    none of the records and raises `Conflict` with the place of that one. No id comes twice, and
    all are memories or all knowledge.

    `derived`: where the caller has it, what is made of each record, in the order of `records`; its
    vectors as the driver's own model makes them. The driver makes what is None, and all where there
    is none.
    """

    records: Sequence[Kept]
    new: bool = False
    once: bool = False
    derived: Sequence[Derived | None] = ()

    def given(self, model: Model | None = None) -> Given:
        """What the caller has, by the records that it is of: all, or what is by that `model`."""
        if not self.derived:
            return {}
        pairs = zip(self.records, self.derived, strict=True)
        return {
            version_of(record): own
            for record, own in pairs
            if own is not None and (model is None or own.is_by(model))
        }


@dataclass(frozen=True, slots=True)
class Replace(Generic[Kept]):
    """A version of a record, to be kept if the driver has the version `over` (an `updated_at`).

    `joins`: this version is of a document that `over` is not of, and no earlier put of the document
    shall replace it.
    """

    record: Kept
    over: datetime
    joins: bool = False


@dataclass(frozen=True, slots=True)
class Put(Generic[Kept]):
    """Records to keep in the place of a document's others, all at once; of none, the others go.

    The document is the knowledge of that `doc_id`; with a `user_id` the memories of that user that
    have it in their metadata, as a tenant's knowledge is kept. The others are those created at the
    moment `before` or earlier, and without it all.

    Twice is once, and the order of two puts does not matter: where the document has records of a
    later put, `records` are not kept. All of a put are created in the millisecond after `before`.
    """

    doc_id: str
    records: Sequence[Kept] = ()
    user_id: str | None = None
    before: datetime | None = None

    def at(self, moment: datetime) -> Self:
        """The same put with a moment; its records get new ids, and are created right after it."""
        created_at = moment + _MILLISECOND
        ids = ids_at(created_at, len(self.records))
        pairs = zip(self.records, ids, strict=True)
        made = [_created(record, one, created_at) for record, one in pairs]
        return replace(self, records=made, before=moment)

    @property
    def created_at(self) -> datetime | None:
        """When its records are created; None without a moment."""
        return None if self.before is None else self.before + _MILLISECOND

    def is_of(self, record: Record) -> bool:
        """Whether the record is of the document."""
        return key_of(record)[0] == self.user_id and document_of(record) == self.doc_id

    def replaces(self, record: Record) -> bool:
        """Whether the record gives way."""
        return self.is_of(record) and (self.before is None or record.created_at <= self.before)

    def comes_before(self, record: Record) -> bool:
        """Whether the record is of a later put of the document."""
        return (
            self.created_at is not None
            and self.is_of(record)
            and position_of(record) is not None
            and record.created_at > self.created_at
        )


def _created(record: Kept, one: str, at: datetime) -> Kept:
    if isinstance(record, Memory):
        return replace(record, memory_id=one, created_at=at, updated_at=at, occurred_at=at)
    return replace(record, knowledge_id=one, created_at=at, updated_at=at)


@dataclass(frozen=True, slots=True)
class Get:
    """One record. A memory of `user_id`, or without one whoever owns it."""

    kind: Kind
    record_id: str
    user_id: str | None = None

    @classmethod
    def of(cls, record: Memory | Knowledge) -> Self:
        """What finds the record, in whatever version."""
        return cls.of_key(key_of(record))

    @classmethod
    def of_key(cls, key: Key) -> Self:
        """The same by the record's owner and id."""
        user_id, one = key
        return cls("knowledge" if user_id is None else "memory", one, user_id)


@dataclass(frozen=True, slots=True)
class Delete:
    """Records to delete, each id once. Memories of `user_id`, or without one whoever owns them."""

    kind: Kind
    ids: tuple[str, ...]
    user_id: str | None = None


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Forget:
    """A user's memories, to be deleted: those created at the moment `before` or earlier.

    Without `before`, all of them. A driver that deletes them in pieces calls `on_piece` after each,
    so that whoever waits for the driver sees that it goes on.
    """

    user_id: str
    before: datetime | None = None
    on_piece: Callable[[], None] = field(default=_nothing, compare=False, repr=False)

    def reaches(self, memory: Memory) -> bool:
        """Whether it deletes the memory."""
        mine = memory.user_id == self.user_id
        return mine and (self.before is None or memory.created_at <= self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """`limit` records, those `after` the end of the page before, as far as the `filter` lets.

    Newest first; with a `doc_id` those of the document, in its order: by position, then by age.
    """

    doc_id: str | None = None
    filter: Filter = EVERYTHING
    after: Place | None = None
    limit: int = 50

    def read_cursor(self, text: str) -> Place:
        """Where a page ended; raises `InvalidInput` for a text that no page of such a list gave."""
        return Cursor.decode(text) if self.doc_id is None else DocumentCursor.decode(text)

    def place(self, record: Record) -> Place:
        """Where the record stands."""
        return Cursor.after(record) if self.doc_id is None else DocumentCursor.after(record)

    def in_order(self, records: Iterable[Kept]) -> list[Kept]:
        """The records as they are listed."""
        return sorted(records, key=self.place, reverse=self.doc_id is None)

    def comes_after(self, record: Record, place: Place | None) -> bool:
        """Whether the record is listed after the place; all are after None."""
        if place is None:
            return True
        own = self.place(record)
        return own > place if self.doc_id is not None else own < place


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Listing):
    """Memories of a user, newest by `occurred_at`; of `conversation_id` if given.

    A `doc_id` is only asked for where the memories are a tenant's knowledge. `whole`: none may be
    missing, so that a driver that may lack some raises `DriverUnavailable`.
    """

    user_id: str
    conversation_id: str | None = None
    whole: bool = False

    def has(self, memory: Memory, now: datetime) -> bool:
        """Whether the user's memory is listed."""
        return self.doc_id in (None, document_of(memory)) and _is_in(self, memory, now)

    def of(self, found: list[Memory]) -> MemoryPage:
        """The page, from up to one memory more than it has."""
        return MemoryPage(*cut(found, self.limit, self.place))


@dataclass(frozen=True, slots=True, kw_only=True)
class PageKnowledge(Listing):
    """Knowledge, newest by `created_at`; of `category` if given."""

    category: str | None = None

    def has(self, knowledge: Knowledge, now: datetime) -> bool:
        """Whether the knowledge is listed."""
        return _takes_part(self, knowledge, now)

    def of(self, found: list[Knowledge]) -> KnowledgePage:
        """The page, from up to one record more than it has."""
        return KnowledgePage(*cut(found, self.limit, self.place))


def _takes_part(
    wanted: RecallKnowledge | PageKnowledge, knowledge: Knowledge, now: datetime
) -> bool:
    return (
        wanted.category in (None, knowledge.category)
        and wanted.doc_id in (None, knowledge.doc_id)
        and is_alive(knowledge, now)
        and wanted.filter.lets(knowledge)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UserRange:
    """The users from `start`, which is inside, to `end`, which is not, in code-point order.

    Without an `end`, all that follow.
    """

    start: str = ""
    end: str | None = None

    def has(self, user_id: str) -> bool:
        """Whether the user is between the two."""
        return self.start <= user_id and (self.end is None or user_id < self.end)

    @property
    def only(self) -> str | None:
        """The user whom alone the range can have, if it is one."""
        return self.start if self.end == after_user(self.start) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Users(UserRange):
    """`limit` of the users who have memories, by their ids."""

    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Export(UserRange):
    """Every memory of the users, by the users' ids; then, where it is wanted, all `knowledge`."""

    knowledge: bool = True

    @classmethod
    def of_user(cls, user_id: str) -> Self:
        """The user's memories alone."""
        return cls(start=user_id, end=after_user(user_id), knowledge=False)

    def includes(self, record: Record) -> bool:
        """Whether the record is wanted."""
        return self.has(record.user_id) if isinstance(record, Memory) else self.knowledge


def _is_in(wanted: Recall | Page, memory: Memory, now: datetime) -> bool:
    return (
        wanted.conversation_id in (None, memory.conversation_id)
        and is_alive(memory, now)
        and wanted.filter.lets(memory)
    )
