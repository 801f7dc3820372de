"""Users who were recalled lately: what was read of them, for as long as nothing changes.

Every script that changes a user's memories gives the user a new stamp, which no other change has.
Who has read the stamp first, and then the memories, has what is right for as long as the stamp is
the same: also after a crash, and on a server that was restored. A change that concerns two
generations gives the same stamp in both, so what was read of one never counts in the other.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from app.core.memory.columns import Columns, Reader
from app.core.memory.filter import Filter
from app.drivers.redis.layout import created_in, fields_in, occurred_in
from app.embedding import Vector
from app.ranking.candidates import Candidates, Mask

_AN_ENTRY = 300
"""Bytes that Python takes for a record besides its own."""


_READER: Reader[bytes] = Reader(
    occurred=occurred_in,
    created=created_in,
    tags=lambda value: fields_in(value)["tags"],
    metadata=lambda value: fields_in(value)["metadata"],
)


@dataclass(slots=True)
class Resident:
    """What is known of a user under one stamp."""

    generation: int
    """Whose model made the vectors."""
    stamp: bytes
    candidates: Candidates
    ids: list[bytes] = field(default_factory=list)
    """Of the memories, in the order in which `Candidates.vector_at` counts their vectors."""
    columns: Columns[bytes] | None = None
    """What filters compare, once one was asked for."""
    asked_again: bool = False
    """Whether it was of use once more."""
    vectors: Vector | None = None
    """Those that `Candidates.vector_at` counts, where all of them were read."""
    records: dict[bytes, bytes] = field(default_factory=dict)
    """Those that were read, by their ids."""

    def filtered(self, wanted: Filter) -> Mask:
        """Which of the candidates the filter lets through; all of their records were read."""
        if self.columns is None:
            keys = self.candidates.keys(np.arange(len(self.candidates)))
            values = [self.records[key] for key in keys]
            self.columns = Columns(values, _READER)
        return self.columns.mask(wanted)

    def lacking(self, ids: Iterable[bytes]) -> list[bytes]:
        """Those of the ids whose records were not read."""
        return [one for one in ids if one not in self.records]

    @property
    def size(self) -> int:
        """Its bytes."""
        columns = (getattr(self.candidates, column.name) for column in fields(self.candidates))
        arrays = (each for each in (*columns, self.vectors) if isinstance(each, np.ndarray))
        total: int = sum(each.nbytes for each in arrays)
        total += sum(len(value) + _AN_ENTRY for value in self.records.values())
        total += 0 if self.columns is None else self.columns.size
        total += (_AN_ENTRY // 4) * len(self.ids)
        return total + _AN_ENTRY * len(self.candidates.names)


class Residents:
    """The users who were recalled last, within a number of bytes; one has half of them at most."""

    def __init__(self, size: int) -> None:
        self._most = size
        self._users: OrderedDict[str, tuple[Resident, int]] = OrderedDict()
        self._total = 0

    @property
    def keeps(self) -> bool:
        """Whether anybody is kept."""
        return self._most > 0

    def find(self, owner: str) -> Resident | None:
        """What is kept of the owner, which may be old."""
        there = self._users.get(owner)
        if there is None:
            return None
        self._users.move_to_end(owner)
        return there[0]

    def has_room(self, size: int) -> bool:
        """Whether one user may have so many bytes."""
        return size <= self._most / 2

    def keep(self, owner: str, resident: Resident) -> None:
        """Keep it, in the place of what there is; whoever was recalled longest ago goes."""
        self.drop(owner)
        size = resident.size
        if not self.has_room(size):
            return
        self._users[owner] = resident, size
        self._total += size
        while self._total > self._most:
            self.drop(next(iter(self._users)))

    def drop(self, owner: str) -> None:
        """Keep the owner no more; who is recalled again is read again."""
        there = self._users.pop(owner, None)
        if there is not None:
            self._total -= there[1]

    def clear(self) -> None:
        """Keep nobody."""
        self._users.clear()
        self._total = 0

    def facts(self) -> dict[str, Any]:
        """How many users are kept, and in how many megabytes, for `/health`."""
        return {"resident_users": len(self._users), "resident_mb": round(self._total / 1e6, 1)}
