"""The names of namespaces, and a record as Pinecone keeps it: a head, windows and parts.

Every id of a caller's is in a name or a filter only as its hash. Of the namespace `memory`:

    memory-about        which model, words and layout the records have
    memory-u-<owner>    a user's memories
    memory-k            knowledge
    memory-o-<digit>    entries that tell the owners of a memory's id
    memory-x            entries of what expires, the next to be deleted first

A record has one vector of Pinecone's, its head, under `m` and its id. A text of several windows has
one more for each of them (`w`), and so has one of very many words; what does not fit into a head's
metadata is in parts (`p`). Windows and parts have the record's version in their ids, so that no
version of a record is put together from two. `g` and a document's hash is the document's put.

A body is compressed: three sizes, the record as JSON, its outline, its vectors.
"""

import json
import struct
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt

from app.core.memory.checks import dump_json
from app.core.memory.codec import as_object, from_object
from app.core.memory.moments import to_microseconds
from app.core.memory.records import (
    Knowledge,
    Memory,
    Record,
    deletable_from,
    document_of,
    newest,
    record_id,
)
from app.drivers.pinecone.bodies import Stored
from app.embedding import Vector

KNOWLEDGE: Final = "k"
"""The owner of knowledge."""
LAYOUT: Final = 1

NOTHING: Final = "-"
"""In the place of a conversation, a document, a tag or a word that is not there: what a condition
on a field that is missing means, differs."""
NEVER: Final = 2**53 - 1
"""Milliseconds; a number of Pinecone's is a float, which counts whole numbers up to here."""

METADATA_BYTES: Final = 40_960
"""Of one vector, as Pinecone counts them."""
_PART: Final = 36_000
_WORDS: Final = 300
"""Of one vector: more words are on more."""
_SIZES = struct.Struct("<III")


@lru_cache(maxsize=4_096)
def hashed(value: str) -> str:
    """32 digits, which stand for the value in names and filters, where nothing has to be escaped.

    As SHA-256 has it, no two values that anybody can find have the same.
    """
    return sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Names:
    """The names of the namespaces of one service."""

    root: str

    @property
    def about(self) -> str:
        return f"{self.root}-about"

    @property
    def expiring(self) -> str:
        return f"{self.root}-x"

    @property
    def users(self) -> str:
        """What the namespaces of all users begin with."""
        return f"{self.root}-u-"

    def of(self, owner: str) -> str:
        """Where the owner's records are."""
        return f"{self.root}-{KNOWLEDGE}" if owner == KNOWLEDGE else f"{self.users}{owner}"

    def owners(self, one: UUID) -> str:
        """Where the owners of the memory's id are told: one of sixteen.

        By a digit that stays for the 16 ms in which a batch is made, and goes round in 256 ms.
        """
        return f"{self.root}-o-{one.hex[10]}"


def owner_of(record: Record) -> str:
    """Whose it is."""
    return hashed(record.user_id) if isinstance(record, Memory) else KNOWLEDGE


def head_id(one: UUID) -> str:
    return f"m{one.hex}"


def uuid_in(vector_id: str) -> UUID:
    """The record's id, in the id of its head or of a window."""
    return UUID(vector_id[1:33])


class Row:
    """A record as it is kept, with all that ranking wants of it. The record is read when asked for.

    `outline` is empty for knowledge. `vectors` has the shape (windows, dimension). `staged`: the
    record is of a put, and nobody sees it before that is made.
    """

    __slots__ = (
        "_record",
        "extra",
        "kept",
        "outline",
        "packed",
        "parts",
        "staged",
        "vectors",
        "version",
    )

    def __init__(
        self,
        packed: bytes,
        outline: bytes,
        vectors: Vector,
        version: int,
        *,
        kept: int,
        staged: bool = False,
        parts: int = 0,
        extra: int = 0,
    ) -> None:
        self.packed = packed
        self.outline = outline
        self.vectors = vectors
        self.version = version
        """Its `updated_at`, in microseconds since 1970."""
        self.kept = kept
        """When it was written, in the same."""
        self.staged = staged
        self.parts = parts
        self.extra = extra
        """Vectors of Pinecone's beside the head and the parts."""
        self._record: Record | None = None

    @classmethod
    def of(
        cls,
        record: Record,
        outline: bytes,
        vectors: Vector,
        at: datetime,
        *,
        staged: bool = False,
    ) -> "Row":
        """The row of a record that is kept at that moment."""
        fields = as_object(record)
        del fields["score"]
        version = to_microseconds(record.updated_at)
        packed = dump_json(fields).encode()
        return cls(packed, outline, vectors, version, kept=to_microseconds(at), staged=staged)

    @property
    def record(self) -> Record:
        """A record that nobody else has."""
        return from_object(json.loads(self.packed))

    @property
    def looked_at(self) -> Record:
        """The same record each time, which nobody may change or give away."""
        if self._record is None:
            self._record = self.record
        return self._record

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.packed) + len(self.outline) + self.vectors.nbytes + 500

    @property
    def others(self) -> list[str]:
        """The ids of the vectors that it has beside its head."""
        one = UUID(record_id(self.looked_at)).hex
        return [
            *_ids("p", one, self.version, self.parts),
            *_ids("w", one, self.version, self.extra),
        ]


def _ids(kind: str, one: str, version: int, count: int) -> Iterator[str]:
    for n in range(count):
        yield f"{kind}{one}.{version:x}.{n}"


def stored(row: Row, words: Sequence[int], room: int) -> list[Stored]:
    """The row as vectors of Pinecone's: first the parts, then the windows, and last the head.

    `words` are the hashes of its words. A head's metadata has `room` bytes at most.
    """
    body = _packed(row)
    found = [_hex(word) for word in words]
    chunks = [found[n : n + _WORDS] for n in range(0, len(found), _WORDS)] or [[]]
    row.extra = max(len(chunks), len(row.vectors)) - 1
    fields = _fields(row)
    head: dict[str, Any] = {
        **fields,
        "k": "m",
        "w": [*chunks[0], NOTHING],
        "e": str(row.version),
        "f": str(row.kept),
        "a": row.extra,
        "q": row.staged,
    }
    left = room - len(json.dumps({**head, "n": 99, "b": ""}, separators=(",", ":")))
    parts = [] if len(body) <= left else [body[n : n + _PART] for n in range(0, len(body), _PART)]
    row.parts = len(parts)
    head |= {"n": row.parts, "b": "" if parts else body}
    one = UUID(record_id(row.looked_at))
    owner = {"u": fields["u"]}
    first = numbers(row.vectors[0])
    made: list[Stored] = [
        {"id": each, "values": first, "metadata": {**owner, "k": "p", "b": part}}
        for each, part in zip(_ids("p", one.hex, row.version, row.parts), parts, strict=True)
    ]
    for n, each in enumerate(_ids("w", one.hex, row.version, row.extra), 1):
        own = numbers(row.vectors[n]) if n < len(row.vectors) else first
        chunk = chunks[n] if n < len(chunks) else []
        metadata = {**fields, "k": "w", "w": [*chunk, NOTHING]}
        made.append({"id": each, "values": own, "metadata": metadata})
    made.append({"id": head_id(one), "values": first, "metadata": head})
    return made


def _fields(row: Row) -> dict[str, Any]:
    """What filters ask for; each is always there."""
    record = row.looked_at
    when, _ = newest(record)
    group = record.conversation_id if isinstance(record, Memory) else record.category
    doc = document_of(record)
    tags = record.tags if isinstance(record, Memory) else []
    over = record.expires_at
    return {
        "u": owner_of(record),
        "c": NOTHING if group is None else hashed(group),
        "d": NOTHING if doc is None else hashed(doc),
        "t": [*dict.fromkeys(map(hashed, tags)), NOTHING],
        "o": to_microseconds(when) // 1_000,
        "r": to_microseconds(record.created_at) // 1_000,
        "x": NEVER if over is None else to_microseconds(over) // 1_000,
    }


def word(number: int) -> str:
    """The hash of a word, as fields and filters have it."""
    return _hex(number)


def _hex(number: int) -> str:
    return f"{number & 0xFFFF_FFFF:08x}"


def numbers(vector: Vector) -> list[float]:
    """The vector's numbers, with the fewest digits that a float32 is known by."""
    return [float(each) for each in vector.astype("U16")]


def constant(dimension: int) -> npt.NDArray[np.float32]:
    """A vector for what nobody searches by vectors: Pinecone takes no zeros."""
    made = np.zeros(dimension, np.float32)
    made[0] = 1
    return made


@lru_cache(maxsize=4)
def filler(dimension: int) -> list[float]:
    """The numbers of `constant`; nobody may change them."""
    return numbers(constant(dimension))


def _packed(row: Row) -> str:
    vectors = row.vectors.astype("<f4").tobytes()
    sizes = _SIZES.pack(len(row.packed), len(row.outline), len(row.vectors))
    whole = b"".join((sizes, row.packed, row.outline, vectors))
    return b64encode(zlib.compress(whole, 1)).decode()


class Head:
    """A head as it was read, whose body may be in parts."""

    __slots__ = ("metadata", "one")

    def __init__(self, vector_id: str, metadata: Mapping[str, Any]) -> None:
        self.one = uuid_in(vector_id)
        self.metadata = metadata

    @property
    def parts(self) -> list[str]:
        """The ids of the parts."""
        version, count = int(self.metadata["e"]), int(self.metadata["n"])
        return [*_ids("p", self.one.hex, version, count)]

    def row(self, parts: Iterable[str]) -> Row | None:
        """The row, given the body's parts; None where these are not all that was stored.

        What is compressed has a checksum of its own.
        """
        about = self.metadata
        body = "".join(parts) if about["n"] else about["b"]
        try:
            whole = zlib.decompress(b64decode(body, validate=True))
            record, outline, windows = _SIZES.unpack_from(whole)
        except (ValueError, struct.error, zlib.error):
            return None
        start = _SIZES.size + record
        values = np.frombuffer(whole, "<f4", offset=start + outline).reshape(windows, -1)
        return Row(
            whole[_SIZES.size : start],
            whole[start : start + outline],
            values.astype(np.float32, copy=False),
            int(about["e"]),
            kept=int(about["f"]),
            staged=bool(about["q"]),
            parts=int(about["n"]),
            extra=int(about["a"]),
        )


def entry(vector_id: str, dimension: int) -> Stored:
    """A vector that is there for its id alone."""
    return {"id": vector_id, "values": filler(dimension), "metadata": {"k": "e"}}


def ownership(one: UUID, owner: str) -> str:
    """The id of the entry that tells an owner of the memory."""
    return f"o{one.hex}.{owner}"


def expiry(record: Record) -> str | None:
    """The id of the entry that tells when to delete the record; in the order of that."""
    over = deletable_from(record)
    if over is None:
        return None
    # From year 1, so that no moment is negative.
    due = to_microseconds(over) // 1_000 + 62_135_596_800_000
    return f"x{due:015}.{UUID(record_id(record)).hex}.{owner_of(record)}"


def is_due(vector_id: str, now: int) -> bool:
    """Whether the entry's moment has come, by milliseconds since 1970."""
    return int(vector_id[1:16]) <= now + 62_135_596_800_000


def due_in(vector_id: str) -> tuple[UUID, str]:
    """The id and the owner of the record that the entry is of."""
    _, one, owner = vector_id.split(".")
    return UUID(one), owner


def user_of(row: Row) -> str | None:
    """The user whose memory it is; None for knowledge."""
    record = row.looked_at
    return None if isinstance(record, Knowledge) else record.user_id
