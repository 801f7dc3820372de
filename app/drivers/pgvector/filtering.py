"""What filters compare of a user who is kept in the service's memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import asyncpg
import numpy as np
import numpy.typing as npt
from pydantic_core import from_json

from app.core.memory.columns import Columns, Reader
from app.core.memory.filter import Filter
from app.core.memory.moments import to_microseconds
from app.ranking.candidates import Candidates, Mask

Records = Mapping[bytes, asyncpg.Record]
"""Memories by id."""


@dataclass(frozen=True, slots=True)
class Filtering:
    """The columns of memories, each of which is known by where its first vector is kept.

    That stays the same while candidates change their order.
    """

    _columns: Columns[asyncpg.Record]
    _rows: npt.NDArray[np.int32]
    """By where a vector is kept, the row of the memory whose first vector it is."""

    @classmethod
    def of(cls, candidates: Candidates, records: Records) -> Self:
        """Of all candidates, whose records are there."""
        return cls(Columns(_records_of(candidates, records), _READER), _rows_of(candidates))

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return self._columns.size + self._rows.nbytes

    def mask(self, candidates: Candidates, wanted: Filter) -> Mask:
        """Which of the candidates the filter lets through."""
        return self._columns.mask(wanted)[self._rows[candidates.first_at()]]

    def extended(self, new: Candidates, records: Records) -> Self:
        """With those that are new, whose vectors are kept behind all others."""
        count = len(self._columns)
        rows = np.concatenate([self._rows, _rows_of(new, count, len(self._rows))])
        return type(self)(self._columns.extended(_records_of(new, records)), rows)

    def renewed(self, candidates: Candidates, records: Records) -> Self:
        """Of the candidates there are now: nothing is kept of memories that are gone."""
        columns = self._columns.renewed(_records_of(candidates, records))
        return type(self)(columns, _rows_of(candidates))


def _records_of(candidates: Candidates, records: Records) -> list[asyncpg.Record]:
    return [records[key] for key in candidates.keys(np.arange(len(candidates)))]


def _rows_of(candidates: Candidates, first: int = 0, start: int = 0) -> npt.NDArray[np.int32]:
    """The rows of the candidates, counted from `first` on, by where from `start` on they are."""
    places = candidates.first_at() - start
    end = int(candidates.vector_at.max()) + 1 - start if len(candidates.vector_at) else 0
    rows = np.full(end, -1, np.int32)
    rows[places] = np.arange(first, first + len(places))
    return rows


_READER: Reader[asyncpg.Record] = Reader(
    occurred=lambda row: to_microseconds(row["occurred_at"] or row["created_at"]),
    created=lambda row: to_microseconds(row["created_at"]),
    tags=lambda row: row["tags"],
    metadata=lambda row: from_json(row["metadata"]),
)
