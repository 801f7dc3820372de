"""A record as one line of JSON and back, unchanged; and the lines around the records.

A file of records is JSON lines, and each line ends with U+000A:

    {"model": {...}}          only where vectors come along: which model made them
    {"memory_id": ...}        a memory or knowledge, with the fields that the API has
    {"end": {...}}            how many there were, and the SHA-256 of all the lines before

A record has besides its `request`, where it was stored under an id of its caller's, and with a
model its `vectors`, where the driver gave them: float32, little-endian, base64, one text a window.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import numpy as np

from app import strict_json
from app.core.memory.checks import (
    as_moment,
    check_id,
    check_metadata,
    check_tags,
    check_text,
    check_whole,
    dump_json,
)
from app.core.memory.codec import as_object
from app.core.memory.cursor import LAST
from app.core.memory.derived import Derived
from app.core.memory.records import Knowledge, Memory, Record
from app.embedding import MOST_WINDOWS, Model, Vector
from app.errors import InvalidInput
from app.settings import Limits

_LARGE: Final = 65_536
"""Bytes of a line from which on its bounds are checked before it is read."""
_TIMES: Final = {"created_at", "updated_at", "occurred_at", "expires_at"}
_VECTOR_BYTES: Final = 8 * 4_096
"""Of a window's vector as text, of a model with that many dimensions, and more."""


def most_bytes(limits: Limits) -> int:
    """The longest line that a record within the limits can have, with its vectors."""
    return limits.widened().one_record_bytes + MOST_WINDOWS * _VECTOR_BYTES


@dataclass(frozen=True, slots=True)
class Line:
    """A record of a file, and its vectors, where the file has them."""

    record: Record
    derived: Derived | None = None


@dataclass(slots=True)
class Counts:
    """How many records there were."""

    memories: int = 0
    knowledge: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.memories + self.knowledge

    def add(self, record: Record) -> None:
        """Count one more."""
        if isinstance(record, Memory):
            self.memories += 1
        else:
            self.knowledge += 1


class Ending:
    """Makes the last line of a file, or checks it, from the lines before it."""

    def __init__(self) -> None:
        self.counts = Counts()
        self._digest = hashlib.sha256()

    def add(self, line: bytes, record: Record | None = None) -> None:
        """Take the next line, with its U+000A, and the record that it has, if any."""
        self._digest.update(line)
        if record is not None:
            self.counts.add(record)

    def line(self) -> bytes:
        """The last line."""
        return _line({"end": self._end()})

    def check(self, fields: Mapping[str, Any]) -> None:
        """Raise `InvalidInput` where these are not the fields of the last line."""
        if fields != self._end():
            raise InvalidInput(
                "the lines are not those that the last one tells of: the file was changed, or a "
                "part of it is missing"
            )

    def _end(self) -> dict[str, Any]:
        return {
            "memories": self.counts.memories,
            "knowledge": self.counts.knowledge,
            "sha256": self._digest.hexdigest(),
        }


def line_of(record: Record, derived: Derived | None = None) -> bytes:
    """The record's line."""
    fields = as_object(record)
    del fields["score"]
    for name in _TIMES & fields.keys():
        if fields[name] is not None and fields[name].endswith("+00:00"):
            fields[name] = f"{fields[name][:-6]}Z"  # as the API has them
    if fields["request"] is None:
        del fields["request"]
    if derived is not None:
        fields["vectors"] = [_text_of(vector) for vector in derived.vectors]
    return _line(fields)


def line_of_model(model: Model) -> bytes:
    """The line that tells of the model."""
    about = {"name": model.name, "dimension": model.dimension, "sample": _text_of(model.sample)}
    return _line({"model": about})


def read_object(line: bytes, most: int) -> dict[str, Any]:
    """The JSON object of a line, where a line has `most` bytes. Raises `InvalidInput`."""
    try:
        if len(line) > _LARGE:
            strict_json.check_bounds(line, most)
        fields = strict_json.decode(line)
    except strict_json.NotJson as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
    if not isinstance(fields, dict):
        raise InvalidInput("a line is a JSON object")
    return fields


def read_model(about: object) -> Model:
    """The model that such a line tells of. Raises `InvalidInput`."""
    known = about if isinstance(about, dict) else {}
    sample = _vector_in(known.get("sample"), ("model", "sample"))
    return Model(check_text(known.get("name", ""), 1_000, ("model", "name")), sample)


def read_record(fields: Mapping[str, Any], limits: Limits, model: Model | None = None) -> Line:
    """The record of a line; `model` made its vectors. Raises `InvalidInput` at the field.

    Fields that may be absent are `updated_at`, which then is `created_at`, and those that may be
    null.
    """
    if "memory_id" in fields:
        record = _memory(_Reader(fields, _OF_MEMORY, limits))
    elif "knowledge_id" in fields:
        record = _knowledge(_Reader(fields, _OF_KNOWLEDGE, limits))
    else:
        raise InvalidInput("a record has a memory_id or a knowledge_id")
    sent = fields.get("vectors")
    if sent is None or model is None:
        return Line(record)
    if not isinstance(sent, list) or not 1 <= len(sent) <= MOST_WINDOWS:
        raise InvalidInput(f"vectors is a list of 1 to {MOST_WINDOWS} texts", ("vectors",))
    windows = [_vector_in(text, ("vectors", n)) for n, text in enumerate(sent)]
    if len({len(window) for window in windows}) != 1 or not model.may_have_made(np.stack(windows)):
        raise InvalidInput(
            f"vectors are unit vectors of {model.dimension} dimensions", ("vectors",)
        )
    return Line(record, Derived(np.stack(windows), model=model))


_OF_BOTH = {"content", "metadata", "created_at", "updated_at", "expires_at", "request", "vectors"}
_OF_MEMORY: Final = _OF_BOTH | {"memory_id", "user_id", "conversation_id", "tags", "occurred_at"}
_OF_KNOWLEDGE: Final = _OF_BOTH | {"knowledge_id", "category", "title", "doc_id", "position"}


class _Reader:
    """Reads the fields of a line, each within the limits."""

    def __init__(self, fields: Mapping[str, Any], known: set[str], limits: Limits) -> None:
        unknown = next((name for name in fields if name not in known), None)
        if unknown is not None:
            raise InvalidInput(f"unknown; there are {', '.join(sorted(known))}", (unknown,))
        self.fields = fields
        self.limits = limits

    def text(self, name: str, most: int) -> str:
        return check_text(self.fields.get(name, ""), most, (name,))

    def text_or_none(self, name: str, most: int) -> str | None:
        given = self.fields.get(name)
        return None if given is None else check_text(given, most, (name,))

    def moment(self, name: str) -> datetime:
        moment = self.moment_or_none(name)
        if moment is None:
            raise InvalidInput(f"{name} must be given", (name,))
        return moment

    def moment_or_none(self, name: str) -> datetime | None:
        """With the offset that it has."""
        given = self.fields.get(name)
        return None if given is None else as_moment(given, (name,))

    def utc(self, name: str) -> datetime | None:
        moment = self.moment_or_none(name)
        return None if moment is None else moment.astimezone(UTC)

    def metadata(self) -> dict[str, Any]:
        return check_metadata(self.fields.get("metadata"), self.limits, ("metadata",))

    def request(self) -> UUID | None:
        given = self.fields.get("request")
        if given is None:
            return None
        try:
            return UUID(given)
        except (TypeError, ValueError, AttributeError):
            raise InvalidInput("request is 32 hexadecimal digits", ("request",)) from None


def _memory(read: _Reader) -> Record:
    limits = read.limits
    created_at = read.moment("created_at").astimezone(UTC)
    return Memory(
        memory_id=str(check_id(read.fields["memory_id"])),
        user_id=read.text("user_id", limits.user_id_chars),
        content=read.text("content", limits.content_chars),
        conversation_id=read.text_or_none("conversation_id", limits.conversation_id_chars),
        tags=check_tags(read.fields.get("tags"), limits, ("tags",)),
        metadata=read.metadata(),
        created_at=created_at,
        updated_at=read.utc("updated_at") or created_at,
        occurred_at=read.moment_or_none("occurred_at") or created_at,
        expires_at=read.utc("expires_at"),
        request=read.request(),
    )


def _knowledge(read: _Reader) -> Record:
    limits, position = read.limits, read.fields.get("position")
    created_at = read.moment("created_at").astimezone(UTC)
    return Knowledge(
        knowledge_id=str(check_id(read.fields["knowledge_id"], "knowledge_id")),
        content=read.text("content", limits.content_chars),
        category=read.text("category", limits.category_chars),
        title=read.text_or_none("title", limits.title_chars),
        doc_id=read.text_or_none("doc_id", limits.doc_id_chars),
        metadata=read.metadata(),
        created_at=created_at,
        updated_at=read.utc("updated_at") or created_at,
        expires_at=read.utc("expires_at"),
        position=None if position is None else check_whole(position, 0, LAST - 1, "position"),
        request=read.request(),
    )


def _line(fields: Mapping[str, Any]) -> bytes:
    return dump_json(fields).encode() + b"\n"


def _text_of(vector: Vector) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _vector_in(text: object, loc: tuple[str | int, ...]) -> Vector:
    """The numbers in a text that `_text_of` made, shape (d,)."""
    if isinstance(text, str) and text.isascii():
        try:
            packed = base64.b64decode(text, validate=True)
            return np.frombuffer(packed, "<f4").astype(np.float32)
        except (binascii.Error, ValueError):
            pass
    raise InvalidInput("a vector is float32 numbers in base64", loc)
