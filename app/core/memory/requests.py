"""What a driver is asked for: checked values, which wrapping drivers hand on as they are.

`RecordDriver` makes them; a field that is added here reaches every driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Literal

from app.core.memory.cursor import Cursor
from app.core.memory.records import Kept, Memory

Kind = Literal["memory", "knowledge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recall:
    """A user's memories, best first; without a `query`, newest first.

    Only memories of `conversation_id`, if given, and with none of `exclude_tags` take part. With
    `explain` each has its `explanation` where vectors took part.
    """

    user_id: str
    conversation_id: str | None = None
    query: str | None = None
    top_k: int = 10
    use_vector: bool = True
    exclude_tags: tuple[str, ...] = ()
    explain: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallKnowledge:
    """Knowledge, best first, of `category` if given."""

    query: str
    top_k: int = 5
    category: str | None = None


@dataclass(frozen=True, slots=True)
class Keep(Generic[Kept]):
    """Records to keep, each in the place of the one of its id that has an older `updated_at`.

    One that is there with the same `updated_at`, or a later one, stays as it is: so twice is once,
    and the order does not matter. `new`: nobody has seen the ids, so that no driver has to look for
    them, and all of the records are kept or none.
    """

    records: Sequence[Kept]
    new: bool = False


@dataclass(frozen=True, slots=True)
class Replace(Generic[Kept]):
    """A record to keep in the place of the one of its id, if that has this `updated_at`."""

    record: Kept
    over: datetime


@dataclass(frozen=True, slots=True)
class Get:
    """One record. A memory of `user_id`, or without one whoever owns it."""

    kind: Kind
    record_id: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """One record to delete. A memory of `user_id`, or without one whoever owns it."""

    kind: Kind
    record_id: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Forget:
    """All memories of a user, to be deleted: those that were created up to the moment `before`.

    Without it, all that are there.
    """

    user_id: str
    before: datetime | None = None

    def reaches(self, memory: Memory) -> bool:
        """Whether it deletes the memory."""
        mine = memory.user_id == self.user_id
        return mine and (self.before is None or memory.created_at <= self.before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """`limit` memories of a user, newest first: those `after` the end of the page before."""

    user_id: str
    conversation_id: str | None = None
    after: Cursor | None = None
    limit: int = 50
