"""Memories and knowledge: what drivers keep and give back, and the limits they keep.

A record gets its id here, a UUIDv7 of its `created_at`, unless the caller gives one. `updated_at`
is the record's version: on every driver the later version replaces the earlier. `new_memory` and
`new_knowledge` check every field: a driver that makes its records with them keeps nothing that it
could not give back as it was.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from app.core.memory.asked import digest
from app.core.memory.checks import (
    Metadata,
    as_moment,
    check_expiry,
    check_id,
    check_metadata,
    check_tags,
    check_text,
)
from app.core.memory.clock import CLOCK, Clock
from app.ranking import Explanation
from app.settings import Limits

DOC_ID: Final = "doc_id"
POSITION: Final = "position"
"""Keys of the metadata of a memory that is a tenant's knowledge."""

_AS_CREATED: Final = datetime.min.replace(tzinfo=UTC)
"""Given as `updated_at` of a record that was never updated: it becomes `created_at`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemory:
    """What a caller asks to store for a user."""

    user_id: str
    content: str
    conversation_id: str | None = None
    tags: Sequence[str] | None = None
    metadata: Metadata | None = None
    occurred_at: datetime | None = None
    """When it happened; None: now. Without an offset in UTC."""
    expires_at: datetime | None = None
    """From when on nobody finds it; None: never, but where there is a `ttl`."""
    ttl: float | None = None
    """Seconds until it expires, in the place of `expires_at`."""
    memory_id: str | None = None
    """The caller's own id for it, any UUID: the same again under that id finds what is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A user's record. `score` is None unless a query recalled it: 0..1, higher is better.

    `updated_at` is `created_at` until the first update, and so is `occurred_at`, with the offset
    that it was given in, unless it was said. From `expires_at` on nobody finds it. `request` tells
    apart what was asked to be stored under an id that the caller gave. `explanation` is there only
    where a recall was asked to explain itself. `repeated` is true only in the answer to a store of
    what was there already.
    """

    memory_id: str
    user_id: str
    content: str
    conversation_id: str | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime = _AS_CREATED
    occurred_at: datetime = _AS_CREATED
    expires_at: datetime | None = None
    request: UUID | None = None
    score: float | None = None
    explanation: Explanation | None = None
    repeated: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.updated_at is _AS_CREATED:
            object.__setattr__(self, "updated_at", self.created_at)
        if self.occurred_at is _AS_CREATED:
            object.__setattr__(self, "occurred_at", self.created_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKnowledge:
    """What a caller asks to store for everyone."""

    content: str
    category: str
    title: str | None = None
    doc_id: str | None = None
    metadata: Metadata | None = None
    expires_at: datetime | None = None
    ttl: float | None = None
    knowledge_id: str | None = None
    """The caller's own id for it, as of a memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """A global record. `score` is None unless a query recalled it: 0..1, higher is better.

    `updated_at` is `created_at` until the first update. `position` counts the records of a
    document from 0. `expires_at`, `request` and `repeated` are as of a memory.
    """

    knowledge_id: str
    content: str
    category: str
    title: str | None = None
    doc_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    updated_at: datetime = _AS_CREATED
    expires_at: datetime | None = None
    position: int | None = None
    request: UUID | None = None
    score: float | None = None
    repeated: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if self.updated_at is _AS_CREATED:
            object.__setattr__(self, "updated_at", self.created_at)


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Memories, newest first; `next_cursor` continues, None at the end."""

    memories: list[Memory]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class UserCount:
    """A user, and how many memories the user has that have not expired: one at least."""

    user_id: str
    memories: int


@dataclass(frozen=True, slots=True)
class UserPage:
    """Users by their ids in code-point order; `next_cursor` continues, None at the end."""

    users: list[UserCount]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class KnowledgePage:
    """Knowledge, newest first or as a document has it; `next_cursor` continues, None at the end."""

    knowledge: list[Knowledge]
    next_cursor: str | None


Record: TypeAlias = Memory | Knowledge
Kept = TypeVar("Kept", bound=Memory | Knowledge)
"""Records of one kind, or of both."""
Key: TypeAlias = tuple[str | None, str]
Version: TypeAlias = tuple[Key, datetime]
Same = TypeVar("Same")

OLDER_VERSIONS: Final = timedelta(days=1)
"""How long an older version of a record may still be on its way to a driver."""


class Recalled(list[Kept]):
    """Recalled records, in the order of the recall, that know who answered and how.

    A driver may return a plain list instead: then it answered itself, neither degraded nor cached.
    """

    def __init__(
        self,
        records: Iterable[Kept],
        *,
        driver: str,
        degraded: bool = False,
        cached: bool = False,
    ) -> None:
        super().__init__(records)
        self.driver = driver
        self.degraded = degraded
        self.cached = cached

    @classmethod
    def like(
        cls,
        found: Sequence[object],
        records: Iterable[Kept],
        *,
        driver: str,
        degraded: bool = False,
    ) -> "Recalled[Kept]":
        """`records` in the place of `found`, with what `found` tells of its answer.

        Where `found` is a plain list, the answer is that of the driver named `driver`.
        """
        if isinstance(found, Recalled):
            return Recalled(
                records,
                driver=found.driver,
                degraded=found.degraded or degraded,
                cached=found.cached,
            )
        return Recalled(records, driver=driver, degraded=degraded)


def new_memory(
    new: NewMemory, limits: Limits, loc: tuple[str | int, ...] = (), *, clock: Clock = CLOCK
) -> Memory:
    """The record to keep for `new`; raises `InvalidInput` that names the field and its limit."""
    check_text(new.user_id, limits.user_id_chars, (*loc, "user_id"))
    check_text(new.content, limits.content_chars, (*loc, "content"))
    if new.conversation_id is not None:
        check_text(new.conversation_id, limits.conversation_id_chars, (*loc, "conversation_id"))
    tags = check_tags(new.tags, limits, (*loc, "tags"))
    metadata = check_metadata(new.metadata, limits, (*loc, "metadata"))
    memory_id, created_at = clock.new_id()
    expires_at = check_expiry(new.expires_at, new.ttl, created_at, loc)
    if expires_at is None and limits.default_ttl is not None:
        expires_at = created_at + timedelta(seconds=limits.default_ttl)
    occurred_at = _given(new.occurred_at, (*loc, "occurred_at"))
    request = None
    if new.memory_id is not None:
        memory_id = str(check_id(new.memory_id, loc=loc))
        request = _request(
            new,
            content=new.content,
            conversation_id=new.conversation_id,
            tags=tags,
            metadata=metadata,
            occurred_at=occurred_at,
        )
    return Memory(
        memory_id=memory_id,
        user_id=new.user_id,
        content=new.content,
        conversation_id=new.conversation_id,
        tags=tags,
        metadata=metadata,
        created_at=created_at,
        occurred_at=created_at if occurred_at is None else occurred_at,
        expires_at=expires_at,
        request=request,
    )


def new_knowledge(
    new: NewKnowledge, limits: Limits, loc: tuple[str | int, ...] = (), *, clock: Clock = CLOCK
) -> Knowledge:
    """The record to keep for `new`; raises `InvalidInput` that names the field and its limit."""
    check_text(new.content, limits.content_chars, (*loc, "content"))
    check_text(new.category, limits.category_chars, (*loc, "category"))
    if new.title is not None:
        check_text(new.title, limits.title_chars, (*loc, "title"))
    if new.doc_id is not None:
        check_text(new.doc_id, limits.doc_id_chars, (*loc, "doc_id"))
    metadata = check_metadata(new.metadata, limits, (*loc, "metadata"))
    knowledge_id, created_at = clock.new_id()
    expires_at = check_expiry(new.expires_at, new.ttl, created_at, loc)
    request = None
    if new.knowledge_id is not None:
        knowledge_id = str(check_id(new.knowledge_id, "knowledge_id", loc))
        request = _request(
            new,
            content=new.content,
            category=new.category,
            title=new.title,
            doc_id=new.doc_id,
            metadata=metadata,
        )
    return Knowledge(
        knowledge_id=knowledge_id,
        content=new.content,
        category=new.category,
        title=new.title,
        doc_id=new.doc_id,
        metadata=metadata,
        created_at=created_at,
        expires_at=expires_at,
        request=request,
    )


def _request(new: NewMemory | NewKnowledge, **asked: Any) -> UUID:
    """What tells `new` apart from other requests under its id: what was said, and no default."""
    expires_at = _given(new.expires_at, ("expires_at",))
    ttl = None if new.ttl is None else float(new.ttl)
    return digest({**asked, "expires_at": expires_at, "ttl": ttl})


def _given(moment: datetime | None, loc: tuple[str | int, ...]) -> datetime | None:
    return None if moment is None else as_moment(moment, loc)


def is_alive(record: Record, now: datetime) -> bool:
    """Whether the record has not expired."""
    return record.expires_at is None or now < record.expires_at


def deletable_from(record: Record) -> datetime | None:
    """From when on a driver deletes the record, which has expired by then; None: never.

    What was updated stays for `OLDER_VERSIONS` more: so no older version, which may expire later,
    comes back.
    """
    if record.expires_at is None or record.updated_at == record.created_at:
        return record.expires_at
    return record.expires_at + OLDER_VERSIONS


def newest(record: Record) -> tuple[datetime, str]:
    """What records are sorted by, descending, where the newest come first."""
    when = record.occurred_at if isinstance(record, Memory) else record.created_at
    return when, record_id(record)


def record_id(record: Record) -> str:
    """The id of either kind of record."""
    return record.memory_id if isinstance(record, Memory) else record.knowledge_id


@lru_cache(maxsize=4_096)
def uuid_of(record_id: str) -> UUID:
    """The id as a UUID; one in capitals is the same."""
    return UUID(record_id)


def document_of(record: Record) -> str | None:
    """The document that the record is of: a memory that is a tenant's knowledge has one, too."""
    if isinstance(record, Knowledge):
        return record.doc_id
    named = record.metadata.get(DOC_ID)
    return named if isinstance(named, str) else None


def position_of(record: Record) -> int | None:
    """The record's place in its document; None where it is there by itself."""
    if isinstance(record, Knowledge):
        return record.position
    place = record.metadata.get(POSITION)
    return place if isinstance(place, int) else None


def latest(records: Iterable[Kept], key: Callable[[Kept], Same]) -> dict[Same, Kept]:
    """Of the records that share a key the one with the latest `updated_at`; by that key."""
    found: dict[Same, Kept] = {}
    for record in records:
        same = found.setdefault(key(record), record)
        if same.updated_at < record.updated_at:
            found[key(record)] = record
    return found


def place_of_owner(record: Record) -> tuple[bool, str]:
    """What records are exported by: users by their ids in code-point order, knowledge last."""
    return (False, record.user_id) if isinstance(record, Memory) else (True, "")


def key_of(record: Record) -> Key:
    """What all versions of a record share, and no two records do: its owner and its id.

    Two users may have memories of one id, as an import brings them. Knowledge has no owner.
    """
    return record.user_id if isinstance(record, Memory) else None, record_id(record)


def version_of(record: Record) -> Version:
    """What no other version of any record has."""
    return key_of(record), record.updated_at
