"""Memories and knowledge: what drivers keep and give back, and the limits they keep.

Every record gets its id here, a UUIDv7, and `created_at` is that id's own time, so that ordering
by either is the same. `new_memory` and `new_knowledge` check every field: a driver that makes its
records with them keeps nothing that it could not give back as it was.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import uuid_utils

from app.errors import InvalidInput
from app.pieces import in_pieces
from app.ranking import Explanation
from app.settings import Limits

Metadata = Mapping[str, Any]

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[][{}]")
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMemory:
    """What a caller asks to store for a user."""

    user_id: str
    content: str
    conversation_id: str | None = None
    tags: Sequence[str] | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A user's record. `score` is None unless a query recalled it: 0..1, higher is better.

    `explanation` is there only where a recall was asked to explain itself.
    """

    memory_id: str
    user_id: str
    content: str
    conversation_id: str | None = None
    tags: list[str] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    score: float | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKnowledge:
    """What a caller asks to store for everyone."""

    content: str
    category: str
    title: str | None = None
    doc_id: str | None = None
    metadata: Metadata | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """A global record. `score` is None unless a query recalled it: 0..1, higher is better."""

    knowledge_id: str
    content: str
    category: str
    title: str | None = None
    doc_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    created_at: datetime
    score: float | None = None


@dataclass(frozen=True, slots=True)
class MemoryPage:
    """Memories, newest first; `next_cursor` continues, None at the end."""

    memories: list[Memory]
    next_cursor: str | None


Record: TypeAlias = Memory | Knowledge
Kept = TypeVar("Kept", bound=Memory | Knowledge)
"""Records of one kind, or of both."""


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
        """`records` in the place of what the driver of that name `found`, however it found that."""
        if isinstance(found, Recalled):
            return Recalled(
                records,
                driver=found.driver,
                degraded=found.degraded or degraded,
                cached=found.cached,
            )
        return Recalled(records, driver=driver, degraded=degraded)


def new_memory(new: NewMemory, limits: Limits, loc: tuple[str | int, ...] = ()) -> Memory:
    """The record to keep for `new`; raises `InvalidInput` that names the field and its limit."""
    check_text(new.user_id, limits.user_id_chars, (*loc, "user_id"))
    check_text(new.content, limits.content_chars, (*loc, "content"))
    if new.conversation_id is not None:
        check_text(new.conversation_id, limits.conversation_id_chars, (*loc, "conversation_id"))
    memory_id, created_at = _new_id()
    return Memory(
        memory_id=memory_id,
        user_id=new.user_id,
        content=new.content,
        conversation_id=new.conversation_id,
        tags=check_tags(new.tags, limits, (*loc, "tags")),
        metadata=check_metadata(new.metadata, limits, (*loc, "metadata")),
        created_at=created_at,
    )


def new_knowledge(new: NewKnowledge, limits: Limits, loc: tuple[str | int, ...] = ()) -> Knowledge:
    """The record to keep for `new`; raises `InvalidInput` that names the field and its limit."""
    check_text(new.content, limits.content_chars, (*loc, "content"))
    check_text(new.category, limits.category_chars, (*loc, "category"))
    if new.title is not None:
        check_text(new.title, limits.title_chars, (*loc, "title"))
    if new.doc_id is not None:
        check_text(new.doc_id, limits.doc_id_chars, (*loc, "doc_id"))
    knowledge_id, created_at = _new_id()
    return Knowledge(
        knowledge_id=knowledge_id,
        content=new.content,
        category=new.category,
        title=new.title,
        doc_id=new.doc_id,
        metadata=check_metadata(new.metadata, limits, (*loc, "metadata")),
        created_at=created_at,
    )


async def new_memories(batch: Sequence[NewMemory], limits: Limits) -> list[Memory]:
    """The records to keep for a batch; raises `InvalidInput` that names the entry."""
    check_batch(batch, limits, "memories")
    return await in_pieces(
        lambda entry: new_memory(entry[1], limits, ("memories", entry[0])), enumerate(batch)
    )


async def new_knowledge_records(batch: Sequence[NewKnowledge], limits: Limits) -> list[Knowledge]:
    """The records to keep for a batch; raises `InvalidInput` that names the entry."""
    check_batch(batch, limits, "knowledge")
    return await in_pieces(
        lambda entry: new_knowledge(entry[1], limits, ("knowledge", entry[0])), enumerate(batch)
    )


def _new_id() -> tuple[str, datetime]:
    made = uuid_utils.uuid7()
    return str(made), datetime.fromtimestamp(made.timestamp / 1000, UTC)


def record_id(record: Record) -> str:
    """The id of either kind of record."""
    return record.memory_id if isinstance(record, Memory) else record.knowledge_id


def check_id(value: str, name: str = "memory_id") -> UUID:
    """`value` as a UUID: 8-4-4-4-12 hexadecimal digits, capitals too; raises `InvalidInput`."""
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InvalidInput(f"{name} is not a UUID", (name,))
    return UUID(value)


def check_text(value: str, maximum: int, loc: tuple[str | int, ...]) -> str:
    """`value` itself when it is 1..`maximum` characters that every backend can keep."""
    name = _name(loc)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string", loc)
    if not value:
        raise InvalidInput(f"{name} must not be empty", loc)
    if len(value) > maximum:
        raise InvalidInput(f"{name} has {len(value)} characters; the limit is {maximum}", loc)
    return check_encodable(value, loc)


def _name(loc: tuple[str | int, ...]) -> str:
    """What a message calls the value at `loc`: content, tags[3]."""
    last = loc[-1]
    return last if isinstance(last, str) else f"{_name(loc[:-1])}[{last}]"


def check_encodable(value: str, loc: tuple[str | int, ...]) -> str:
    """`value` itself unless it holds a NUL or a lone surrogate, which no UTF-8 text can keep."""
    if "\x00" in value:
        raise InvalidInput(f"{_name(loc)} has a NUL character (U+0000)", loc)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{_name(loc)} has a lone surrogate, which is not a character", loc
        ) from None
    return value


def check_tags(tags: Sequence[str] | None, limits: Limits, loc: tuple[str | int, ...]) -> list[str]:
    """`tags` as a list, in their order, each within the limits."""
    if tags is None:
        return []
    if isinstance(tags, str) or not isinstance(tags, Sequence):
        raise InvalidInput(f"{_name(loc)} must be a list of strings", loc)
    if len(tags) > limits.tags:
        raise InvalidInput(f"{_name(loc)} has {len(tags)} entries; the limit is {limits.tags}", loc)
    if all(isinstance(tag, str) and 0 < len(tag) <= limits.tag_chars for tag in tags):
        with suppress(InvalidInput):  # all of them at once, which is several times faster
            check_encodable("".join(tags), loc)
            return list(tags)
    return [check_text(tag, limits.tag_chars, (*loc, n)) for n, tag in enumerate(tags)]


def check_metadata(
    metadata: Metadata | None, limits: Limits, loc: tuple[str | int, ...]
) -> dict[str, Any]:
    """A deep copy of `metadata` when it is a JSON object within the limits."""
    if metadata is None:
        return {}
    if not isinstance(metadata, Mapping):
        raise InvalidInput(f"{_name(loc)} must be an object", loc)
    if _is_larger(metadata, limits.metadata_bytes):
        raise InvalidInput(
            f"{_name(loc)} is more than {limits.metadata_bytes} bytes as JSON, the limit", loc
        )
    quick = _quick_copy(metadata, limits, loc)
    if quick is not None:
        return quick
    copy: dict[str, Any] = _copy_json(metadata, limits.metadata_depth, loc)
    try:
        text = dump_json(copy)
    except ValueError:
        raise InvalidInput(f"{_name(loc)} has an integer of too many digits", loc) from None
    _check_size(text, limits, loc)
    return copy


def _is_larger(value: Any, size: int) -> bool:
    """Whether the JSON of `value` has more than `size` bytes for certain, without making it."""
    left = [value]
    while left and size >= 0:
        one = left.pop()
        if isinstance(one, str):
            size -= len(one) + 2
        elif isinstance(one, (dict, Mapping)):  # the first is what it is nearly always, and quick
            size -= 4 * len(one) + 1  # of a member: two quotes, a colon and a comma
            if size >= 0:
                size -= sum(len(key) for key in one if isinstance(key, str))
                left += one.values()
        elif isinstance(one, (list, tuple)):
            size -= len(one) + 1
            if size >= 0:
                left += one
        elif isinstance(one, int):
            size -= one.bit_length() // 4  # a digit is 3.3 bits
    return size < 0


def _check_size(text: str, limits: Limits, loc: tuple[str | int, ...]) -> None:
    size = len(text.encode())
    if size > limits.metadata_bytes:
        raise InvalidInput(
            f"{_name(loc)} is {size} bytes as JSON; the limit is {limits.metadata_bytes}", loc
        )


def _quick_copy(
    metadata: Metadata, limits: Limits, loc: tuple[str | int, ...]
) -> dict[str, Any] | None:
    """What `_copy_json` gives for most metadata, many times faster; None where it must look.

    What is too large is refused before anything else looks at it.
    """
    try:
        text = dump_json(metadata)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return None
    _check_size(text, limits, loc)
    if "\\u0000" in text or _depth(text) > limits.metadata_depth:
        return None
    copy: dict[str, Any] = json.loads(text)
    return copy if copy == metadata else None


def _depth(text: str) -> int:
    """How deeply the JSON text is nested."""
    deepest = depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _copy_json(value: Any, depth: int, loc: tuple[str | int, ...]) -> Any:
    if isinstance(value, str):
        return check_encodable(value, loc)
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidInput("JSON has no NaN and no infinity", loc)
        return value
    if isinstance(value, (Mapping, list, tuple)):
        if depth == 0:
            raise InvalidInput("metadata is nested too deeply", loc)
        if not isinstance(value, Mapping):
            return [_copy_json(item, depth - 1, (*loc, n)) for n, item in enumerate(value)]
        if not all(isinstance(key, str) for key in value):
            raise InvalidInput("the keys of a JSON object are strings", loc)
        return {
            check_encodable(key, (*loc, "key")): _copy_json(item, depth - 1, (*loc, key))
            for key, item in value.items()
        }
    raise InvalidInput(f"{type(value).__name__} is not a JSON value", loc)


def dump_json(value: Any) -> str:
    """Compact JSON that `json.loads` turns into an equal value, floats and key order included."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def check_scope(limits: Limits, user_id: str, conversation_id: str | None = None) -> None:
    """Refuse a user or conversation that no memory could have."""
    check_text(user_id, limits.user_id_chars, ("user_id",))
    if conversation_id is not None:
        check_text(conversation_id, limits.conversation_id_chars, ("conversation_id",))


def check_recall(
    limits: Limits,
    user_id: str,
    conversation_id: str | None,
    query: str | None,
    top_k: int,
    exclude_tags: Sequence[str] | None,
) -> None:
    """Refuse a recall that is not within the limits."""
    check_scope(limits, user_id, conversation_id)
    if query is not None:
        check_text(query, limits.query_chars, ("query",))
    check_top_k(top_k, limits)
    check_tags(exclude_tags, limits, ("exclude_tags",))


def check_recall_knowledge(limits: Limits, query: str, top_k: int, category: str | None) -> None:
    """Refuse a recall of knowledge that is not within the limits."""
    check_text(query, limits.query_chars, ("query",))
    check_top_k(top_k, limits)
    if category is not None:
        check_text(category, limits.category_chars, ("category",))


def check_top_k(top_k: int, limits: Limits, name: str = "top_k") -> int:
    """`top_k` itself when it is within 1..`limits.top_k`."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= limits.top_k:
        raise InvalidInput(f"{name} must be an integer from 1 to {limits.top_k}", (name,))
    return top_k


def check_batch(batch: Sequence[object], limits: Limits, name: str) -> None:
    """Refuse an empty or over-long batch."""
    if not 1 <= len(batch) <= limits.batch:
        raise InvalidInput(f"{name} must have 1 to {limits.batch} entries", (name,))
