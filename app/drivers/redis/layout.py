"""The names of the keys, and a record as Redis keeps it: a header that scripts read, then JSON.

Everything of one namespace has one hash tag, `{memory}`, so that a script and a transaction may
touch all of it on a cluster, too. Every id of a caller's is in a name only as its hash. An owner is
a user's hash; knowledge has the owner `k`.

The vectors of another model are in keys of another generation. The names of the first generation
begin with `{memory}`, those of the second with `{memory}:2`. `{memory}:meta` tells of all of them,
also which one is in use: `meta.py` has its fields. Each generation has:

    meta            hash    how many windows its knowledge has; of the next one, how many records
    missing         set     owner and id of each record that the next one lacks
    services        hash    service -> whether it has loaded the next one's model
    names           hash    owner -> user id
    stamps          hash    owner -> what no other change of the owner's memories has
    users           zset    user ids
    owners          hash    memory id -> the owners who have a memory of that id, 32 digits each
    expiring        zset    when to delete it, owner, id: of what expires
    r:owner         hash    id -> header and record
    o:owner         hash    id -> id and outline
    v:owner         hash    id -> vectors
    l:owner         zset    time and id of every record, which is its place in a list
    g:owner:group   zset    the same of a conversation, or of a category
    d:owner:doc     zset    position, moment of creation and id of a document's records
    x:owner         zset    when it expires, and id: of what expires
    i:id:n          hash    the n-th window of knowledge, for the index

All members of sorted sets have score 0: Redis sorts those by their bytes.
"""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any

from pydantic_core import from_json, to_json

from app.core.memory.codec import as_object, from_object
from app.core.memory.cursor import LAST, Cursor, DocumentCursor
from app.core.memory.moments import to_microseconds
from app.core.memory.records import (
    Knowledge,
    Memory,
    Record,
    deletable_from,
    document_of,
    newest,
    position_of,
    record_id,
)

KNOWLEDGE = "k"
"""The owner of knowledge."""
ID_BYTES = 16
"""Of an id, before an outline too."""

_EPOCH = 62_135_596_800_000_000
"""Microseconds from year 1, the least that a datetime can be, to 1970."""
_DIGITS = 18
NEVER = "9" * _DIGITS
_NOWHERE = " " * 32
_HEADER = 4 * _DIGITS + _DIGITS + 32 + 32 + 10 + 2


@lru_cache(maxsize=4_096)
def hashed(value: str) -> str:
    """32 digits, which stand for the value in names and queries, where nothing has to be escaped.

    As SHA-256 has it, no two values that anybody can find have the same.
    """
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@lru_cache(maxsize=4_096)
def digits(moment: datetime | None) -> str:
    """The moment as 18 digits, which sort as moments do in every locale; None: after all others."""
    return NEVER if moment is None else f"{to_microseconds(moment) + _EPOCH:0{_DIGITS}}"


def after(moment: datetime) -> str:
    """The next moment, as `digits`."""
    return f"{to_microseconds(moment) + _EPOCH + 1:0{_DIGITS}}"


def owner_of(record: Record) -> str:
    """Whose it is."""
    return hashed(record.user_id) if isinstance(record, Memory) else KNOWLEDGE


def id_of(record: Record) -> bytes:
    """Its id, 16 bytes."""
    return bytes.fromhex(record_id(record).replace("-", ""))


def place(cursor: Cursor | DocumentCursor) -> bytes:
    """Where in a list a record stands: after it the next page begins."""
    if isinstance(cursor, DocumentCursor):
        header = f"{cursor.position:010}{digits(cursor.created_at)}"
    else:
        header = digits(cursor.occurred_at)
    return header.encode() + cursor.record_id.bytes


@dataclass(frozen=True, slots=True)
class Names:
    """The names of a namespace's keys of one generation."""

    namespace: str
    generation: int = 1

    @property
    def base(self) -> str:
        """What the names of all generations begin with."""
        return f"{{{self.namespace}}}"

    @property
    def meta(self) -> str:
        """The hash that tells which generation is in use."""
        return f"{self.base}:meta"

    @property
    def root(self) -> str:
        """What the names of this generation begin with."""
        return self.base if self.generation == 1 else f"{self.base}:{self.generation}"

    @property
    def index(self) -> str:
        """The index of the knowledge. Redis Cluster finds its shard by the same hash tag."""
        return f"{self.root}:index:1"

    def of(self, *parts: str) -> str:
        """The key of these parts."""
        return ":".join((self.root, *parts))

    def has(self, key: str) -> bool:
        """Whether the key is one of this generation."""
        if key == self.meta or not key.startswith(f"{self.root}:"):
            return False
        return not key[len(self.root) + 1 :].partition(":")[0].isdigit()


def encoded(record: Record, windows: int) -> bytes:
    """The record as it is kept; of knowledge, that has so many `windows`."""
    when, _ = newest(record)
    group = record.conversation_id if isinstance(record, Memory) else record.category
    doc, position = document_of(record), position_of(record)
    header = "".join(
        (
            digits(record.updated_at),
            digits(record.created_at),
            digits(record.expires_at),
            digits(deletable_from(record)),
            digits(when),
            _NOWHERE if group is None else hashed(group),
            _NOWHERE if doc is None else hashed(doc),
            f"{LAST if position is None else position:010}",
            f"{windows if isinstance(record, Knowledge) else 0:02}",
        )
    )
    fields = as_object(record)
    del fields["score"]
    return header.encode() + to_json(fields)


def decoded(value: bytes) -> Record:
    """The record that `encoded` was given."""
    return from_object(fields_in(value))


def fields_in(value: bytes) -> dict[str, Any]:
    """Its fields, as JSON has them."""
    fields: dict[str, Any] = from_json(value[_HEADER:])
    return fields


def created_in(value: bytes) -> int:
    """When it was created, in microseconds since 1970."""
    return int(value[_DIGITS : 2 * _DIGITS]) - _EPOCH


def occurred_in(value: bytes) -> int:
    """When it happened; of knowledge when it was created. In microseconds since 1970."""
    return int(value[4 * _DIGITS : 5 * _DIGITS]) - _EPOCH


def version_in(value: bytes) -> str:
    """Its version, as `digits`."""
    return value[:_DIGITS].decode()


def expires_in(value: bytes) -> str:
    """When it expires, as `digits`."""
    return value[2 * _DIGITS : 3 * _DIGITS].decode()


def windows_in(value: bytes) -> int:
    """How many windows knowledge has."""
    return int(value[_HEADER - 2 : _HEADER])
