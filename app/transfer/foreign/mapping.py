"""Fields of a foreign object as a record: what the form says, and what the operator says of it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import NAMESPACE_URL, UUID, uuid5

from app.core.memory.checks import check_id, dump_json
from app.errors import InvalidInput
from app.settings import Limits
from app.transfer.lines import Line, read_record

FIELDS: Final = (
    "memory_id",
    "user_id",
    "content",
    "conversation_id",
    "tags",
    "metadata",
    "created_at",
    "updated_at",
    "occurred_at",
    "expires_at",
    "knowledge_id",
    "category",
    "title",
    "doc_id",
    "position",
)
"""What a record of ours may have, as the API calls it."""

_NAMESPACE: Final = uuid5(NAMESPACE_URL, "memory-driver-service/import")
_MOMENTS: Final = ("created_at", "updated_at", "occurred_at", "expires_at")
_OF_MEMORIES: Final = ("conversation_id", "tags", "occurred_at")
_OF_KNOWLEDGE: Final = ("category", "title", "doc_id", "position")
"""Fields that the other kind of record has in its metadata, where they are given."""
_SECONDS: Final = 100_000_000_000
"""A number from this one on is a moment in milliseconds: in seconds it would be the year 5138."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the operator says: fields that are elsewhere in the object, and fields that are given.

    `paths`: by field, where it is in the object, as `metadata.user` or `namespace.1`. `values`: by
    field, its value in every record.
    """

    paths: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, maps: Sequence[str], sets: Sequence[str]) -> "Said":
        """From the command line's FIELD=PATH and FIELD=VALUE. Raises `InvalidInput`."""
        return cls(dict(map(_pair, maps)), dict(map(_pair, sets)))

    def applied(self, fields: dict[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
        """The fields, with what the operator says in the place of what the form says."""
        found = {name: at(item, path) for name, path in self.paths.items()}
        there = {name: one for name, one in found.items() if one is not None}
        return {**fields, **there, **self.values}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in FIELDS or not value:
        raise InvalidInput(f"{text!r} is not FIELD=…, where FIELD is one of {', '.join(FIELDS)}")
    return name, value


def at(item: object, path: str) -> Any:
    """What is at the path; None where nothing is. The whole path may be one name, too."""
    if isinstance(item, Mapping) and path in item:
        return item[path]
    first, dot, rest = path.partition(".")
    if isinstance(item, Mapping):
        inner = item.get(first)
    elif isinstance(item, list) and first.isdecimal() and int(first) < len(item):
        inner = item[int(first)]
    else:
        return None
    return at(inner, rest) if dot else inner


def record_of(fields: Mapping[str, Any], form: str, now: datetime, limits: Limits) -> Line:
    """The record of these fields, checked as one of our own files is. Raises `InvalidInput`.

    An id that is no UUID, or that is not there, becomes one that is always the same for the same
    object: so the same import again changes nothing. What does not say when it was created was
    created `now`.
    """
    made = {name: one for name, one in fields.items() if one is not None}
    kind = "memory_id"
    if "user_id" not in made:
        if "category" not in made:
            raise InvalidInput(
                "whose memory it is does not show: say --set user_id=…, or --map user_id=… for "
                "where it stands; knowledge for everyone has a category instead"
            )
        kind = "knowledge_id"
    for name, read in (("tags", tags_of), ("metadata", lambda text: object_of(text, "metadata"))):
        if isinstance(made.get(name), str):
            made[name] = read(made[name])
    if isinstance(made.get("position"), str):
        made["position"] = in_json(made["position"])
    others = _OF_KNOWLEDGE if kind == "memory_id" else _OF_MEMORIES
    if strange := {name: made.pop(name) for name in others if name in made}:
        made["metadata"] = {**strange, **made.get("metadata", {})}
    made["created_at"] = moment_of(made.get("created_at", now), "created_at")
    for name in _MOMENTS[1:]:
        if name in made:
            made[name] = moment_of(made[name], name)
    if made.get("updated_at", made["created_at"]) < made["created_at"]:
        del made["updated_at"]
    for name in ("memory_id", "knowledge_id"):
        if name != kind and name in made:
            made[kind] = made.pop(name)
    made[kind] = str(_id_of(made.get(kind), made, form))
    made = {
        name: one.isoformat() if isinstance(one, datetime) else one for name, one in made.items()
    }
    return read_record(made, limits)


def _id_of(given: object, fields: Mapping[str, Any], form: str) -> UUID:
    if isinstance(given, str):
        try:
            return check_id(given)
        except InvalidInput:
            pass
    if given is not None:
        told: Any = [form, fields.get("user_id"), given]
    else:
        told = [form, *sorted((name, str(one)) for name, one in fields.items())]
    return uuid5(_NAMESPACE, dump_json(told))


def moment_of(value: object, name: str) -> datetime:
    """A moment as programs write it: ISO 8601 in any of its forms, or a number since 1970.

    A number is in seconds, and a large one in milliseconds. Without an offset it is UTC.
    """
    try:
        if isinstance(value, datetime):
            found = value
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found = datetime.fromtimestamp(value / 1000 if value >= _SECONDS else value, UTC)
        elif isinstance(value, str) and len(value.strip()) >= 10:
            text = value.strip()
            if text.replace(".", "", 1).isdecimal():
                return moment_of(float(text), name)
            found = datetime.fromisoformat(text)
        else:
            raise ValueError
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"{name} is no moment such as 2026-05-08T13:56:00+02:00", (name,)) from (
            None
        )
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def tags_of(value: object) -> list[str] | None:
    """Tags as programs write them: a list, a JSON list in a text, or a text with commas."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        if value.lstrip().startswith("["):
            value = in_json(value)
        else:
            return [tag.strip() for tag in value.split(",") if tag.strip()]
    if not isinstance(value, list):
        raise InvalidInput("tags is a list, or a text with commas", ("tags",))
    return [tag if isinstance(tag, str) else dump_json(tag) for tag in value]


def object_of(value: object, name: str) -> dict[str, Any]:
    """An object, also as JSON in a text; nothing is an empty one."""
    found = in_json(value) if isinstance(value, str) and value.strip() else value
    if not found:
        return {}
    if not isinstance(found, dict):
        raise InvalidInput(f"{name} is no JSON object", (name,))
    return found


def in_json(text: str) -> Any:
    """The JSON in a text. Raises `InvalidInput`."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
