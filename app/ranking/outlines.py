"""A memory's outline: all that ranking wants of it but its vectors, in bytes that a backend keeps.

So every backend keeps the same, and none has to know what is in it:

    the header (`_HEADER`), the speaker's name in UTF-8, the signs of the vectors (a bit for each
    dimension), the hashes of the words (4 bytes each, ascending)

Each part, and of the signs each vector's, is filled up with zeros to a multiple of 8 bytes, so that
numpy reads many outlines at once. Numbers are little-endian. What the words are tells
`words.VERSION`, which a backend keeps too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from app.ranking.candidates import Candidates, ordered
from app.ranking.dates import occurred_on
from app.ranking.form import asks
from app.ranking.speakers import speaker_of
from app.ranking.words import hashes, words

_HEADER = np.dtype(
    [
        ("occurred", "<i8"),
        ("conversation", "<u8"),
        ("speaker", "<u8"),
        ("day", "<i4"),
        ("words", "<u4"),
        ("length", "<u4"),
        ("signs", "<u2"),
        ("name", "<u2"),
        ("end", "<u8"),
    ]
)
"""`words`: how many; `signs`: how many times 8 bytes of all vectors; `name`: its bytes. `end` is
twice the moment from which on the memory is expired, 0 for never, and 1 more where it asks."""

_SIZE = _HEADER.itemsize
_UNIT = 8
"""Bytes; every part has a multiple of them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = datetime.resolution
_FIRST_DAY = date(1970, 1, 1)

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int64]


@lru_cache(maxsize=4_096)
def number_of(name: str) -> int:
    """The number of a conversation or a speaker: 64 bits of BLAKE2b, and never 0."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


def packed(
    content: str,
    metadata: Mapping[str, Any],
    conversation_id: str | None,
    created_at: datetime,
    signs: bytes,
    language: str,
    *,
    occurred_at: datetime | None = None,
    expires_at: datetime | None = None,
) -> bytes:
    """The outline of a memory whose vectors have these `signs` (see `signs_of`)."""
    when = created_at if occurred_at is None else occurred_at
    expires = 0 if expires_at is None else max(1, microseconds(expires_at))
    told = words(content, language)
    own = hashes(told.every)
    speaker = speaker_of(content, metadata)
    name = (speaker or "").encode("utf-8", "surrogatepass")
    header = np.zeros(1, _HEADER)
    header["occurred"] = microseconds(when)
    header["conversation"] = 0 if conversation_id is None else number_of(conversation_id)
    header["speaker"] = 0 if speaker is None else number_of(speaker)
    header["day"] = (occurred_on(metadata, created_at, occurred_at) - _FIRST_DAY).days
    header["words"] = len(own)
    header["length"] = len(told.asked)
    header["signs"] = len(signs) // _UNIT
    header["name"] = len(name)
    header["end"] = 2 * expires + asks(content)
    return header.tobytes() + _filled(name) + signs + _filled(own.astype("<i4").tobytes())


def signs_of(vectors: Vectors) -> bytes:
    """The signs of a memory's vectors, shape (vectors, dimension), as its outline keeps them."""
    return _wide(np.packbits(vectors > 0, axis=1)).tobytes()


def signs_in(outline: bytes) -> bytes:
    """The signs that an outline keeps."""
    header = np.frombuffer(outline, _HEADER, 1)[0]
    start = _SIZE + _up(int(header["name"]))
    return outline[start : start + _UNIT * int(header["signs"])]


def with_other_words(outline: bytes, content: str, language: str) -> bytes:
    """The outline with the content's words as `words` gives them now."""
    told = words(content, language)
    own = hashes(told.every)
    header = np.frombuffer(outline, _HEADER, 1).copy()
    end = _SIZE + _up(int(header["name"][0])) + _UNIT * int(header["signs"][0])
    header["words"] = len(own)
    header["length"] = len(told.asked)
    return header.tobytes() + outline[_SIZE:end] + _filled(own.astype("<i4").tobytes())


def unpacked(
    ids: bytes,
    sizes: Counts,
    outlines: bytes,
    dimension: int,
    *,
    only: Sequence[int] | None = None,
) -> Candidates:
    """The candidates of outlines that stand one after the other.

    `ids` are the memories' ids, 16 bytes each, and `sizes` the bytes of each outline. The vectors
    have `dimension` numbers; they are kept one after the other, in the same order. With `only`, no
    other words are kept than those of these hashes: what one query needs.
    """
    units = np.frombuffer(outlines, "<u8")
    sizes = sizes // _UNIT
    starts = np.cumsum(sizes) - sizes
    header = units[starts[:, None] + np.arange(_SIZE // _UNIT)].view(_HEADER).reshape(-1)
    name_starts = starts + _SIZE // _UNIT
    sign_starts = name_starts + -(-header["name"].astype(np.int64) // _UNIT)
    signs = header["signs"].astype(np.int64)
    word_starts, counts = sign_starts + signs, header["words"].astype(np.int64)
    own = np.frombuffer(outlines, "<i4")[_places(2 * word_starts, counts)].astype(np.int32)
    word_row = np.repeat(np.arange(len(sizes), dtype=np.int32), counts)
    if only is not None:
        wanted = np.flatnonzero(np.isin(own, np.array(only, np.int32)))
        own, word_row = own[wanted], word_row[wanted]
    by_word = np.argsort(own, kind="stable")
    columns = -(-dimension // 64)
    vector_row = np.repeat(np.arange(len(sizes), dtype=np.int32), signs // columns)
    return ordered(
        Candidates(
            ids=np.frombuffer(ids, ">u8").astype(np.uint64).reshape(-1, 2),
            occurred=header["occurred"].astype(np.int64),
            expires=(header["end"] >> 1).astype(np.int64),
            days=header["day"].astype(np.int32),
            conversation=header["conversation"].astype(np.uint64),
            speaker=header["speaker"].astype(np.uint64),
            names=_names(header, outlines, name_starts),
            asks=(header["end"] & 1).astype(np.bool_),
            length=header["length"].astype(np.int32),
            words=own[by_word],
            word_row=word_row[by_word],
            signs=np.ascontiguousarray(units[_places(sign_starts, signs)].reshape(-1, columns).T),
            vector_row=vector_row,
            vector_at=np.arange(len(vector_row), dtype=np.int32),
        )
    )


def unpacked_each(
    ids: Sequence[bytes],
    outlines: Sequence[bytes],
    dimension: int,
    *,
    only: Sequence[int] | None = None,
) -> Candidates:
    """The candidates of outlines that stand apart, with the memories' ids; as `unpacked`."""
    sizes = np.array([len(outline) for outline in outlines], np.int64)
    return unpacked(b"".join(ids), sizes, b"".join(outlines), dimension, only=only)


def no_candidates(dimension: int) -> Candidates:
    """None at all."""
    return unpacked(b"", np.zeros(0, np.int64), b"", dimension)


def sign_columns(vector: Vectors) -> npt.NDArray[np.uint64]:
    """The signs of one vector, shape (dimension,), as `Candidates.signs` has them."""
    columns: npt.NDArray[np.uint64] = _wide(np.packbits(vector > 0)[np.newaxis]).view("<u8")[0]
    return columns


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC."""
    return (moment - _EPOCH) // _MICROSECOND


def _names(header: npt.NDArray[np.void], outlines: bytes, starts: Counts) -> dict[int, str]:
    """The speakers' names by their numbers."""
    numbers, firsts = np.unique(header["speaker"], return_index=True)
    sizes = header["name"][firsts].tolist()
    return {
        number: outlines[at : at + size].decode("utf-8", "surrogatepass")
        for number, size, at in zip(
            numbers.tolist(), sizes, (_UNIT * starts[firsts]).tolist(), strict=True
        )
        if number
    }


def _places(starts: Counts, counts: Counts) -> Counts:
    """The places of so many from each start, one run after the other."""
    ends = np.cumsum(counts)
    within: Counts = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return within + np.repeat(starts, counts)


def _wide(signs: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Rows of bytes, each filled up."""
    filled = np.zeros((len(signs), _up(signs.shape[1])), np.uint8)
    filled[:, : signs.shape[1]] = signs
    return filled


def _filled(part: bytes) -> bytes:
    return part.ljust(_up(len(part)), b"\0")


def _up(size: int) -> int:
    return -(-size // _UNIT) * _UNIT
