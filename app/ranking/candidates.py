"""Candidates: what is known of the memories that may answer a query, as columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Rows = npt.NDArray[np.intp] | npt.NDArray[np.int32]
"""Which candidates: indexes into their columns."""
Mask = npt.NDArray[np.bool_]
"""Shape (n,): which candidates, one truth value each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The n memories of a scope, ordered by conversation and time: turns stand beside each other.

    `outlines.unpacked` makes them.
    """

    ids: npt.NDArray[np.uint64]
    """Shape (n, 2): the two halves of each memory's id."""

    occurred: Ints
    """Shape (n,): when each happened, in microseconds since 1970, UTC."""

    expires: Ints
    """Shape (n,): from when on each is expired, in the same; 0: never."""

    days: npt.NDArray[np.int32]
    """Shape (n,): the day that each is of, since 1970-01-01."""

    conversation: npt.NDArray[np.uint64]
    """Shape (n,): the same number for the same conversation; 0: none, and so no neighbours."""

    speaker: npt.NDArray[np.uint64]
    """Shape (n,): the same number for the same speaker, a key of `names`; 0: not known."""

    names: Mapping[int, str]
    """The names of those speakers, and of no others."""

    asks: Mask
    """Shape (n,): whether the memory is a question."""

    length: npt.NDArray[np.int32]
    """Shape (n,): how many different words tell something."""

    words: npt.NDArray[np.int32]
    """The hashes of every memory's words, ascending: a word stands as often as memories have it."""

    word_row: npt.NDArray[np.int32]
    """Shape of `words`: which candidate has it."""

    signs: npt.NDArray[np.uint64]
    """Shape (columns, vectors): the signs of the vectors, 64 dimensions a column."""

    vector_row: npt.NDArray[np.int32]
    """Shape (vectors,): which candidate each vector belongs to, ascending; each has one or more."""

    vector_at: npt.NDArray[np.int32]
    """Shape (vectors,): where whoever keeps the vectors keeps each."""

    def __len__(self) -> int:
        return len(self.occurred)

    def keys(self, rows: Rows) -> list[bytes]:
        """The ids of some, 16 bytes each."""
        raw = self.ids[rows].astype(">u8").tobytes()
        return [raw[n : n + 16] for n in range(0, len(raw), 16)]

    def first_at(self) -> Rows:
        """Shape (n,): where whoever keeps the vectors keeps the first of each candidate."""
        if len(self.vector_row) == len(self):
            return self.vector_at
        firsts: Rows = np.searchsorted(self.vector_row, np.arange(len(self)))
        return self.vector_at[firsts]

    def having(self, words: Sequence[int]) -> list[Rows]:
        """For the hash of each word, those that have it."""
        wanted = np.array(words, np.int32)
        firsts = np.searchsorted(self.words, wanted, "left").tolist()
        lasts = np.searchsorted(self.words, wanted, "right").tolist()
        return [self.word_row[a:b] for a, b in zip(firsts, lasts, strict=True)]

    def taken(self, rows: Rows) -> Self:
        """Some of them, in the order of `rows`, where each stands once."""
        place = np.full(len(self), -1, np.int32)
        place[rows] = np.arange(len(rows), dtype=np.int32)
        word_row = place[self.word_row]
        kept = word_row >= 0
        vector_row = place[self.vector_row]
        vectors = np.flatnonzero(vector_row >= 0)
        vectors = vectors[np.argsort(vector_row[vectors], kind="stable")]
        speakers = np.unique(self.speaker[rows]).tolist() if self.names else ()
        return replace(
            self,
            names={number: self.names[number] for number in speakers if number},
            **{name: getattr(self, name)[rows] for name in _A_ROW_EACH},
            words=self.words[kept],
            word_row=word_row[kept],
            signs=np.ascontiguousarray(self.signs[:, vectors]),
            vector_row=vector_row[vectors],
            vector_at=self.vector_at[vectors],
        )

    def vectors_of(self, rows: Rows) -> tuple[Rows, Rows]:
        """The vectors of some, ascending rows: which they are, and where those of each begin."""
        if len(self.vector_row) == len(self):
            return rows, np.arange(len(rows))
        firsts = np.searchsorted(self.vector_row, rows, "left")
        counts = np.searchsorted(self.vector_row, rows, "right") - firsts
        starts = np.cumsum(counts) - counts
        return np.repeat(firsts - starts, counts) + np.arange(counts.sum()), starts


_A_ROW_EACH = ("ids", "occurred", "expires", "days", "conversation", "speaker", "asks", "length")


def joined(parts: Sequence[Candidates]) -> Candidates:
    """All of them, in order; each part, of which there are some, is in order, and shares none."""
    every = [part for part in parts if len(part)] or parts[:1]
    if len(every) == 1:
        return every[0]
    starts = np.cumsum([0, *(len(part) for part in every)])
    columns = {name: np.concatenate([getattr(part, name) for part in every]) for name in _JOINED}
    for name in ("word_row", "vector_row"):
        rows = [getattr(part, name) + start for part, start in zip(every, starts, strict=False)]
        columns[name] = np.concatenate(rows).astype(np.int32)
    by_word = np.argsort(columns["words"], kind="stable")
    columns |= {name: columns[name][by_word] for name in ("words", "word_row")}
    return ordered(
        Candidates(
            **columns,
            names={key: name for part in every for key, name in part.names.items()},
            signs=np.concatenate([part.signs for part in every], axis=1),
        )
    )


_JOINED = tuple(
    field.name
    for field in fields(Candidates)
    if field.name not in {"names", "signs", "word_row", "vector_row"}
)


def ordered(candidates: Candidates) -> Candidates:
    """The same by conversation, time and id."""
    conversation, occurred = candidates.conversation, candidates.occurred
    order = np.lexsort((occurred, conversation))
    beside = conversation[order][1:] == conversation[order][:-1]
    if np.any(beside & (occurred[order][1:] == occurred[order][:-1])):
        high, low = candidates.ids.T
        order = np.lexsort((low, high, occurred, conversation))
    if np.array_equal(order, np.arange(len(order))):
        return candidates
    return candidates.taken(order)
