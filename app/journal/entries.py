"""What the journal holds: one write of one user, or of knowledge."""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, replace
from typing import Literal, Self

from app.core.memory.records import Memory, Record, record_id
from app.core.memory.requests import Delete, Forget

Verb = Literal["store", "delete", "delete_user", "store_knowledge", "delete_knowledge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write to be made on several drivers.

    `user_id` is None for knowledge, and for a delete whoever owns the memory.
    """

    verb: Verb
    user_id: str | None = None
    record_id: str | None = None
    """What a delete of one record deletes."""
    records: Sequence[Record] = ()
    """What a store keeps."""

    @property
    def stores(self) -> bool:
        """Whether it adds records, rather than deleting them."""
        return self.verb in ("store", "store_knowledge")

    @property
    def deleted_by(self) -> Verb:
        """What deletes one of the records that it stores."""
        return "delete" if self.verb == "store" else "delete_knowledge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Write):
    """A write in the journal."""

    seq: int
    """Its place: larger is later."""
    created_at: float
    """Seconds since the epoch."""
    pending_for: frozenset[str] = frozenset()
    """The drivers that still have to get it; known to who reads it."""
    behind: frozenset[str] = frozenset()
    """Known to who made it: the drivers that still had to get an earlier delete of what it keeps.

    They may delete it again, so only who delivers to them, in order, knows that they have it.
    """

    def without(self, ids: Set[str]) -> Self:
        """The same without the records of these ids."""
        if not ids:
            return self
        return replace(self, records=[r for r in self.records if record_id(r) not in ids])


@dataclass(frozen=True, slots=True)
class Span:
    """The places of some entries."""

    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Lag:
    """What one driver still has to get."""

    count: int = 0
    """Writes."""
    oldest: float = 0.0
    """Age of the oldest in seconds; 0 without any."""
    dead_letters: int = 0
    """Of these, how many the driver refused: they are not tried again."""

    def __str__(self) -> str:
        return "1 write waits" if self.count == 1 else f"{self.count} writes wait"


def delete_of(wanted: Delete | Forget) -> Write:
    """The write that deletes what is wanted."""
    if isinstance(wanted, Forget):
        return Write(verb="delete_user", user_id=wanted.user_id)
    if wanted.kind == "knowledge":
        return Write(verb="delete_knowledge", record_id=wanted.record_id)
    return Write(verb="delete", user_id=wanted.user_id, record_id=wanted.record_id)


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
