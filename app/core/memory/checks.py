"""The limits that every driver keeps, checked in one place.

Each check raises `InvalidInput` that names the value's place, and what its limit is.
"""

import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final
from uuid import UUID

from app.errors import InvalidInput
from app.settings import Limits

Metadata = Mapping[str, Any]

MOST_TTL: Final = 3_155_760_000
"""Seconds: a hundred years."""

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_MINUTE = timedelta(minutes=1)
_FIRST_DAY = datetime(1, 1, 3, tzinfo=UTC)
_LAST_DAY = datetime(9999, 12, 30, tzinfo=UTC)

MOST_RECENCY: Final = 0.2
"""The most points for being new: more would bury what answers the query."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_BRACKET = re.compile(r"[][{}]")
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-5][0-9])?"
)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def check_id(value: str, name: str = "memory_id", loc: tuple[str | int, ...] = ()) -> UUID:
    """`value` as a UUID: 8-4-4-4-12 hexadecimal digits, capitals too; raises `InvalidInput`.

    `loc` is the path to what has the field `name`.
    """
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise InvalidInput(f"{name} is not a UUID", (*loc, name))
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
        elif isinstance(one, (dict, Mapping)):  # nearly always a dict, and that check is quick
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
    """Compact JSON that `json.loads` turns into an equal value, floats and key order included.

    Raises `ValueError` for NaN and for infinite numbers. What is checked already `to_json` of
    pydantic_core writes as well, several times faster; it spells some floats otherwise.
    """
    return _JSON.encode(value)


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


def check_half_life(days: float, loc: tuple[str | int, ...]) -> float:
    """`days` itself when it is a number above 0."""
    if type(days) not in (int, float) or not 0 < days <= sys.float_info.max:
        raise InvalidInput(f"{_name(loc)} must be a number above 0", loc)
    return days


def check_recency_weight(weight: float, loc: tuple[str | int, ...]) -> float:
    """`weight` itself when it is a number from 0 to `MOST_RECENCY`."""
    if type(weight) not in (int, float) or not 0 <= weight <= MOST_RECENCY:
        raise InvalidInput(f"{_name(loc)} must be a number from 0 to {MOST_RECENCY}", loc)
    return weight


def check_recall_knowledge(
    limits: Limits, query: str, top_k: int, category: str | None, doc_id: str | None
) -> None:
    """Refuse a recall of knowledge that is not within the limits."""
    check_text(query, limits.query_chars, ("query",))
    check_top_k(top_k, limits)
    if category is not None:
        check_text(category, limits.category_chars, ("category",))
    if doc_id is not None:
        check_text(doc_id, limits.doc_id_chars, ("doc_id",))


def check_top_k(top_k: int, limits: Limits, name: str = "top_k") -> int:
    """`top_k` itself when it is within 1..`limits.top_k`."""
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= limits.top_k:
        raise InvalidInput(f"{name} must be an integer from 1 to {limits.top_k}", (name,))
    return top_k


def check_whole(value: int, least: int, most: int, name: str) -> int:
    """`value` itself when it is an integer from `least` to `most`."""
    if type(value) is not int or not least <= value <= most:
        raise InvalidInput(f"{name} must be an integer from {least} to {most}", (name,))
    return value


def as_moment(value: datetime | str, loc: tuple[str | int, ...]) -> datetime:
    """The moment with its offset in whole minutes, in UTC where it has none.

    A text tells it as RFC 3339 does. The first two days of the calendar and the last two are no
    moments: in another offset, or a day later, they may be outside of it.
    """
    name = _name(loc)
    moment = value
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        with suppress(ValueError):  # 31 February
            moment = datetime.fromisoformat(value.upper())
    if not isinstance(moment, datetime):
        raise InvalidInput(f"{name} is no moment such as 2026-05-08T13:56:00+02:00", loc)
    offset = moment.utcoffset()
    if offset is None:
        moment = moment.replace(tzinfo=UTC)
    elif moment.tzinfo is not UTC:
        minutes = timedelta(minutes=offset // _MINUTE)
        moment = moment.replace(tzinfo=None) + (minutes - offset)
        moment = moment.replace(tzinfo=timezone(minutes) if minutes else UTC)
    if not _FIRST_DAY <= moment.replace(tzinfo=UTC) < _LAST_DAY:
        raise InvalidInput(f"{name} is no moment of the years 1 to 9999", loc)
    return moment


def check_moment(value: datetime, name: str) -> datetime:
    """`as_moment` of a field."""
    if not isinstance(value, datetime):
        raise InvalidInput(f"{name} must be a datetime", (name,))
    return as_moment(value, (name,))


def read_moment(text: str, name: str) -> datetime:
    """`as_moment` of a field that has a text."""
    if not isinstance(text, str):
        raise InvalidInput(f"{name} is no moment such as 2026-05-08T13:56:00+02:00", (name,))
    return as_moment(text, (name,))


def check_ttl(ttl: float, loc: tuple[str | int, ...]) -> float:
    """`ttl` itself when it is a number of seconds above 0, of a hundred years at most."""
    if type(ttl) not in (int, float) or not 0 < ttl <= MOST_TTL:
        raise InvalidInput(f"{_name(loc)} must be a number above 0, at most {MOST_TTL}", loc)
    return ttl


def check_expiry(
    expires_at: datetime | None,
    ttl: float | None,
    now: datetime,
    loc: tuple[str | int, ...] = (),
) -> datetime | None:
    """When a record expires that does so at a moment, or `ttl` seconds from `now`; None: never.

    Raises `InvalidInput` where both are given, and for a moment that is not after `now`.
    """
    if ttl is not None:
        if expires_at is not None:
            raise InvalidInput("ttl and expires_at can't both be given", (*loc, "ttl"))
        return now + timedelta(seconds=check_ttl(ttl, (*loc, "ttl")))
    if expires_at is None:
        return None
    moment = as_moment(expires_at, (*loc, "expires_at")).astimezone(UTC)
    if moment <= now:
        raise InvalidInput("expires_at must be a moment to come", (*loc, "expires_at"))
    return moment


def check_batch(batch: Sequence[object], limits: Limits, name: str) -> None:
    """Refuse an empty or over-long batch."""
    if not 1 <= len(batch) <= limits.batch:
        raise InvalidInput(f"{name} must have 1 to {limits.batch} entries", (name,))
