"""A record as objects of Weaviate: what filters and sorts want of it as properties, and its JSON.

Every id of a caller's is in a property only as its hash: Weaviate trims texts and folds their case
where it sorts them. An owner is a user's hash; knowledge has the owner `k`. A record is one object,
whose id is made of its owner and its own id; knowledge of several windows has one more for each.

    owner     whose it is
    key       the record's id
    group     the conversation, or the category, as a hash
    doc       the document, as a hash
    put       of what a put has kept: the moment of the put
    place     where it stands in a list: when it happened, and its id
    spot      where it stands in its document: position, moment of creation, id
    at        the milliseconds of `place`
    position  the number of `spot`
    created   milliseconds
    expires   milliseconds, from which on nobody finds it
    gone      milliseconds, from which on it is to be deleted
    kept      when it was kept by itself, or in a put
    version   its `updated_at`
    made      its `created_at`
    window    which window of its text the object is of
    windows   how many there are
    record    the record as JSON: all that is read back
    outline   a memory's outline
    vectors   a memory's vectors

A mark is of a user, `name` being the user's id, or of a put.
"""

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Final
from uuid import UUID, uuid5

import numpy as np

from app.core.memory.checks import dump_json
from app.core.memory.codec import as_object, from_object
from app.core.memory.cursor import LAST, Cursor, DocumentCursor, Place
from app.core.memory.moments import to_microseconds
from app.core.memory.records import (
    Memory,
    Record,
    deletable_from,
    document_of,
    position_of,
    record_id,
)
from app.drivers.weaviate.bodies import Thing, encoded
from app.embedding import Vector

LAYOUT: Final = 1
KNOWLEDGE: Final = "k"
"""The owner of knowledge."""
NEVER: Final = 2.0**53 - 1
"""Milliseconds that are never reached: the largest whole number that Weaviate keeps exactly."""

_EPOCH = 62_135_596_800_000_000
"""Microseconds from year 1, the least that a datetime can be, to 1970."""
_DIGITS = 18
_SPACE = UUID("6c1f0a4e-0f53-5d8e-9a52-3c4be1a7d2f6")
"""Of the ids of objects."""


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the collections."""

    prefix: str

    @property
    def memories(self) -> str:
        return f"{self.prefix}Memory"

    @property
    def knowledge(self) -> str:
        return f"{self.prefix}Knowledge"

    @property
    def marks(self) -> str:
        return f"{self.prefix}Mark"

    def of(self, owner: str) -> str:
        """The collection that has the owner's records."""
        return self.knowledge if owner == KNOWLEDGE else self.memories


@lru_cache(maxsize=4_096)
def hashed(value: str) -> str:
    """64 digits, which stand for the value where Weaviate compares it.

    As SHA-256 has it, no two values that anybody can find have the same.
    """
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def digits(moment: datetime) -> str:
    """The moment as 18 digits, which sort as moments do."""
    return f"{to_microseconds(moment) + _EPOCH:0{_DIGITS}}"


def milliseconds(moment: datetime) -> float:
    """The moment in whole milliseconds from year 1, cut off: Weaviate keeps them exactly."""
    return float((to_microseconds(moment) + _EPOCH) // 1_000)


def _end(moment: datetime | None) -> float:
    """The first whole millisecond at which the moment is reached."""
    return NEVER if moment is None else float(-(-(to_microseconds(moment) + _EPOCH) // 1_000))


def owner_of(record: Record) -> str:
    """Whose it is."""
    return hashed(record.user_id) if isinstance(record, Memory) else KNOWLEDGE


def object_id(owner: str, key: str, window: int = 0) -> str:
    """The id of the object of an owner's record."""
    return str(uuid5(_SPACE, f"{owner}/{key}/{window}"))


def id_of(record: Record) -> str:
    """The id of the record's object."""
    return object_id(owner_of(record), record_id(record))


def place_of(place: Place) -> tuple[float, str]:
    """Where in a list a record stands: the number, and the text, that lists are sorted by."""
    key = place.record_id.hex
    if isinstance(place, DocumentCursor):
        return float(place.position), f"{place.position:010}{digits(place.created_at)}{key}"
    return milliseconds(place.occurred_at), f"{digits(place.occurred_at)}{key}"


def things_of(
    names: Names,
    record: Record,
    vectors: Vector,
    outline: bytes,
    kept: datetime,
    put: str | None = None,
) -> list[Thing]:
    """The objects of a record that is `kept` at that moment; its own is the last.

    `vectors` has shape (windows, dimension); only a memory's `outline` counts; `put` is the moment
    of the put that keeps it, if one does. Who reads while they are written sees windows of a
    version that the record is not of yet.
    """
    owner, key = owner_of(record), record_id(record)
    group = record.conversation_id if isinstance(record, Memory) else record.category
    doc, position = document_of(record), position_of(record)
    shared: dict[str, str | float] = {
        "owner": owner,
        "key": key,
        "kept": digits(kept),
        "version": digits(record.updated_at),
        "made": digits(record.created_at),
        "created": milliseconds(record.created_at),
        "expires": _end(record.expires_at),
        "gone": _end(deletable_from(record)),
        "position": float(LAST if position is None else position),
    }
    if group is not None:
        shared["group"] = hashed(group)
    if doc is not None:
        shared["doc"] = hashed(doc)
    if put is not None:
        shared["put"] = put
    collection = names.of(owner)
    fields = as_object(record)
    del fields["score"]
    at, place = place_of(Cursor.after(record))
    own = {
        **shared,
        "at": at,
        "place": place,
        "spot": place_of(DocumentCursor.after(record))[1],
        "window": 0.0,
        "windows": float(len(vectors)),
        "record": dump_json(fields),
    }
    if isinstance(record, Memory):
        own["outline"] = base64.b64encode(outline).decode()
        own["vectors"] = encoded(vectors)
        return [Thing(collection, object_id(owner, key), own)]
    others = [
        Thing(
            collection,
            object_id(owner, key, n),
            {**shared, "window": float(n)},
            vectors[n],
        )
        for n in range(1, len(vectors))
    ]
    return [*others, Thing(collection, object_id(owner, key), own, vectors[0])]


def decoded(text: str) -> Record:
    """The record of an object's JSON."""
    return from_object(json.loads(text))


def vectors_in(text: str, dimension: int) -> Vector:
    """The vectors of base64 text, shape (windows, dimension)."""
    numbers = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, dimension)
    return numbers.astype(np.float32, copy=False)


def user_mark(names: Names, user_id: str, seen: datetime) -> Thing:
    """What tells that there is the user: the name in hexadecimal digits sorts as the id does."""
    owner = hashed(user_id)
    values: dict[str, str | float] = {
        "kind": "user",
        "owner": owner,
        "name": name_of(user_id),
        "seen": milliseconds(seen),
        "gone": NEVER,
    }
    return Thing(names.marks, object_id(owner, "user"), values)


def name_of(user_id: str) -> str:
    """A user id as it is in the name of a mark, or its beginning."""
    return user_id.encode("utf-8", "surrogatepass").hex()


def user_of(name: str) -> str:
    """The user id that a mark names."""
    return bytes.fromhex(name).decode("utf-8", "surrogatepass")


def put_mark(
    names: Names, owner: str, doc: str, put: str, before: str, kind: str, gone: float
) -> Thing:
    """What tells that a put was made of the document (a hash), or is being made.

    `put`: the moment when its records are created; `before`: the moment that it replaces up to.
    """
    values: dict[str, str | float] = {
        "kind": kind,
        "owner": owner,
        "doc": doc,
        "put": put,
        "before": before,
        "gone": gone,
    }
    return Thing(names.marks, object_id(owner, f"{doc}/{put}"), values)
