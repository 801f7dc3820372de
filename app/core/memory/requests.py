"""What a driver is asked for: checked values, which wrapping drivers hand on as they are.

`RecordDriver` makes them; a field that is added here reaches every driver.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, Literal, Self

from app.core.memory.cursor import Cursor
from app.core.memory.filter import EVERYTHING, Filter
from app.core.memory.records import Kept, Knowledge, Memory, is_alive, key_of

Kind = Literal["memory", "knowledge"]


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
        return (
            self.category in (None, knowledge.category)
            and self.doc_id in (None, knowledge.doc_id)
            and is_alive(knowledge, now)
            and self.filter.lets(knowledge)
        )


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
    """

    records: Sequence[Kept]
    new: bool = False
    once: bool = False


@dataclass(frozen=True, slots=True)
class Replace(Generic[Kept]):
    """A version of a record, to be kept if the driver has the version `over` (an `updated_at`)."""

    record: Kept
    over: datetime


@dataclass(frozen=True, slots=True)
class Get:
    """One record. A memory of `user_id`, or without one whoever owns it."""

    kind: Kind
    record_id: str
    user_id: str | None = None

    @classmethod
    def of(cls, record: Memory | Knowledge) -> Self:
        """What finds the record, in whatever version."""
        user_id, one = key_of(record)
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
class Page:
    """`limit` memories of a user, newest first: those `after` the end of the page before.

    Newest by `occurred_at`. Of `conversation_id` if given, and only what the `filter` lets through.
    """

    user_id: str
    conversation_id: str | None = None
    filter: Filter = EVERYTHING
    after: Cursor | None = None
    limit: int = 50

    def has(self, memory: Memory, now: datetime) -> bool:
        """Whether the user's memory is listed."""
        return _is_in(self, memory, now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """`limit` users who have memories, by their ids in code-point order.

    From `start`, which is inside, to `end`, which is not; without an `end`, all that follow.
    """

    start: str = ""
    end: str | None = None
    limit: int = 50

    def has(self, user_id: str) -> bool:
        """Whether the user is between the two."""
        return self.start <= user_id and (self.end is None or user_id < self.end)


def _is_in(wanted: Recall | Page, memory: Memory, now: datetime) -> bool:
    return (
        wanted.conversation_id in (None, memory.conversation_id)
        and is_alive(memory, now)
        and wanted.filter.lets(memory)
    )
