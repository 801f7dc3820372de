"""Two drivers compared record by record, in one pass over both: each gives owner after owner.

Of an owner it first compares a count and a sum of digests; only where these differ it reads the
owner's records of both again. So memory holds the ids of one owner at most, or of a part of one.
"""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from pydantic_core import to_json

from app.core.memory.codec import as_object
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Record, key_of, place_of_owner
from app.errors import DriverError
from app.tasks import both

Place: TypeAlias = tuple[bool, str]
"""Where an owner stands in an export; the knowledge has one, too."""

_BITS: Final = 128
_PART: Final = 100_000
"""Records of an owner whose ids are in memory at once."""
_LAST: Final[Place] = (True, "\x01")
"""After every owner."""


@dataclass(slots=True)
class Differing:
    """The records of one owner that the target lacks, has otherwise, or has too many."""

    user_id: str | None
    """None: the knowledge."""
    missing: set[Key] = field(default_factory=set)
    different: set[Key] = field(default_factory=set)
    extra: set[Key] = field(default_factory=set)

    def __len__(self) -> int:
        return len(self.missing) + len(self.different) + len(self.extra)


@dataclass(slots=True)
class Compared:
    """How many records have been compared: those of the source."""

    records: int = 0


@dataclass(slots=True)
class _Sum:
    """What the records of one owner come to, in whatever order."""

    place: Place
    count: int = 0
    total: int = 0

    def add(self, record: Record) -> None:
        self.count += 1
        self.total = (self.total + int.from_bytes(digest(record), "big")) % (1 << _BITS)


def digest(record: Record) -> bytes:
    """Of all that a driver keeps of the record: 16 bytes that no other record has."""
    return hashlib.sha256(to_json(as_object(record))).digest()[: _BITS // 8]


async def differences(
    source: RecordDriver,
    target: RecordDriver,
    user_id: str | None = None,
    *,
    since: datetime | None = None,
    told: Compared | None = None,
) -> AsyncIterator[Differing]:
    """What differs, owner by owner and of a large owner in parts; of one user, or of all.

    `since` is as of `RecordDriver.export_records`. What others write meanwhile may look different.
    Raises `DriverError` for a driver whose export is not in order.
    """
    told = told or Compared()
    ones, others = _sums(source, user_id, since), _sums(target, user_id, since)
    async with aclosing(ones), aclosing(others):
        one, other = await both(_next(ones), _next(others))
        while min(one.place, other.place) < _LAST:
            if one.place == other.place:
                told.records += one.count
                if (one.count, one.total) != (other.count, other.total):
                    async for part in _parts(source, target, one, other, since):
                        yield part
                one, other = await both(_next(ones), _next(others))
            elif one.place < other.place:
                told.records += one.count
                async for part in _parts(source, target, one, _Sum(one.place), since):
                    yield part
                one = await _next(ones)
            else:
                async for part in _parts(source, target, _Sum(other.place), other, since):
                    yield part
                other = await _next(others)


async def _next(sums: AsyncIterator[_Sum]) -> _Sum:
    return await anext(sums, _Sum(_LAST))


async def _sums(
    driver: RecordDriver, user_id: str | None, since: datetime | None
) -> AsyncGenerator[_Sum, None]:
    """Of each owner what its records come to."""
    now: _Sum | None = None
    async for record in driver.export_records(user_id, since=since):
        place = place_of_owner(record)
        if now is None or place != now.place:
            if now is not None:
                if place < now.place:
                    raise DriverError(reason=f"{driver.name} does not export owner by owner")
                yield now
            now = _Sum(place)
        now.add(record)
    if now is not None:
        yield now


async def _parts(
    source: RecordDriver,
    target: RecordDriver,
    one: _Sum,
    other: _Sum,
    since: datetime | None,
) -> AsyncIterator[Differing]:
    """What differs of an owner."""
    knowledge, user_id = one.place
    owner = None if knowledge else user_id
    parts = 1 + max(one.count, other.count) // _PART
    for part in range(parts):
        found = Differing(owner)
        wanted = {key: made async for key, made in _digests(source, owner, since, part, parts)}
        async for key, made in _digests(target, owner, since, part, parts):
            there = wanted.pop(key, None)
            if there is None:
                found.extra.add(key)
            elif there != made:
                found.different.add(key)
        found.missing = set(wanted)
        if found:
            yield found


async def _digests(
    driver: RecordDriver, owner: str | None, since: datetime | None, part: int, parts: int
) -> AsyncIterator[tuple[Key, bytes]]:
    """The owner's records that are of the part, by the end of their ids."""
    async for record in of_owner(driver, owner, since=since):
        key = key_of(record)
        if parts == 1 or int(key[1][-8:], 16) % parts == part:
            yield key, digest(record)


def of_owner(
    driver: RecordDriver, owner: str | None, *, since: datetime | None = None
) -> AsyncIterator[Record]:
    """The memories of the user; of None the knowledge."""
    if owner is None:
        return driver.export_records(start=None, since=since)
    return driver.export_records(owner, since=since)
