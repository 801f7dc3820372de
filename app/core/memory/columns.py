"""What filters compare of many records, in columns: numpy finds which of them have a value.

A column answers for its key as `Condition.holds` does for each record.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, compress
from math import inf
from operator import attrgetter
from sys import getsizeof
from typing import Any, Final, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt

from app.core.memory.filter import Condition, Filter, Scalar, Span, scalars
from app.core.memory.moments import to_microseconds

_MOST_KEYS: Final = 8
"""Keys of the metadata whose columns are kept."""
_MOST_VALUES: Final = 8
"""Of a record in a column, on average; where long lists have more, each record is asked."""
_VALUE_BYTES: Final = 200
"""Of a different value, about, beside the value itself."""

Row = TypeVar("Row")
Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[Any]
"""Whole numbers."""
Moments = npt.NDArray[np.int64]
"""Microseconds since 1970, UTC."""

_kind = attrgetter("kind")


@dataclass(frozen=True, slots=True)
class Reader(Generic[Row]):
    """What tells of a row what filters compare; moments in microseconds since 1970, UTC."""

    occurred: Callable[[Row], int]
    created: Callable[[Row], int]
    tags: Callable[[Row], Sequence[str]]
    metadata: Callable[[Row], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Moved:
    """Where the rows of before are now."""

    before: Places
    """Of each row, its place before; -1 where it is new."""
    now: Places
    """Of each row of before, its place; -1 where it is gone."""

    @classmethod
    def behind(cls, before: int, count: int) -> Self:
        """Those of before stay where they are, and new ones follow: `count` in all."""
        places = np.arange(count)
        return cls(np.where(places < before, places, -1), places[:before])

    @property
    def fresh(self) -> Places:
        """The places of the new rows."""
        return np.flatnonzero(self.before < 0)


class _Column:
    """The different values at one key, in order, and which of n records has which."""

    def __init__(
        self,
        there: Mask,
        rows: Places,
        codes: Places,
        different: Sequence[Scalar],
        value_bytes: int | None = None,
    ) -> None:
        """`there`: which records have the key; each of `rows` has the value of the code beside it,
        which is its place in `different`. All of these take `value_bytes`, if that is known.
        """
        self._there, self._rows, self._codes = there, rows, codes
        self._different = different
        if value_bytes is None:
            value_bytes = sum(map(_value_bytes, different))
        self._value_bytes = value_bytes
        arrays = self._there.nbytes + self._rows.nbytes + self._codes.nbytes
        self.size = arrays + value_bytes
        """Bytes that it takes, about."""

    def __len__(self) -> int:
        return len(self._there)

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]], key: str, count: int) -> Self | None:
        """The column of a key; None where the records have too many values there."""
        there, rows, values = _read(enumerate(records), key, _MOST_VALUES * count)
        if len(values) > _MOST_VALUES * count:
            return None
        different = sorted(set(values))
        places = {value: place for place, value in enumerate(different)}
        codes = np.array([places[value] for value in values], np.int32)
        return cls(np.array(there, np.bool_), np.array(rows, np.int32), codes, different)

    def renewed(self, moved: _Moved, fresh: Sequence[Mapping[str, Any]], key: str) -> Self | None:
        """The column after its records have moved, with the `fresh` ones; None as of `of`."""
        count = len(moved.before)
        stays = moved.now[self._rows] >= 0
        rows, codes = moved.now[self._rows][stays], self._codes[stays]
        there = np.zeros(count, np.bool_)
        known = moved.before >= 0
        there[known] = self._there[moved.before[known]]
        different, value_bytes = [*self._different], self._value_bytes
        if not stays.all():  # what nobody has any more is not kept
            used = np.bincount(codes, minlength=len(different)) > 0
            different = [*compress(different, used)]
            codes = (np.cumsum(used) - 1)[codes]
            value_bytes = sum(map(_value_bytes, different))
        places = moved.fresh
        new_there, new_rows, values = _read(zip(places.tolist(), fresh, strict=True), key, inf)
        there[places] = new_there
        added = [one for one in sorted(set(values)) if _place(different, one) is None]
        if len(codes) + len(values) > _MOST_VALUES * count:
            return None
        if added:
            before = [bisect_left(different, one) for one in added]
            codes = codes + np.searchsorted(before, codes, side="right")
            for place, one in zip(reversed(before), reversed(added), strict=True):
                different.insert(place, one)
        new_codes = [bisect_left(different, value) for value in values]
        return type(self)(
            there,
            np.concatenate([rows, np.array(new_rows, np.int32)]).astype(np.int32),
            np.concatenate([codes, np.array(new_codes, np.int32)]).astype(np.int32),
            different,
            value_bytes + sum(map(_value_bytes, added)),
        )

    def mask(self, condition: Condition) -> Mask:
        """Which of the records the condition holds for."""
        if condition.operator == "exists":
            return self._there if condition.values[0].value else ~self._there
        mask = np.zeros(len(self._there), np.bool_)
        mask[self._rows[self._hits(condition)]] = True
        return ~mask if condition.operator in ("ne", "nin") else mask

    def _hits(self, condition: Condition) -> Mask:
        """Which of the values the condition is about."""
        if condition.operator in ("eq", "ne", "in", "nin"):
            found = (_place(self._different, one) for one in condition.values)
            return np.isin(self._codes, [place for place in found if place is not None])
        (limit,) = condition.values
        first = bisect_left(self._different, limit.kind, key=_kind)
        end = bisect_right(self._different, limit.kind, key=_kind)
        # What is above comes after the limit, and what is below ends with it.
        own = condition.operator in ("gte", "lt")
        at = (bisect_left if own else bisect_right)(self._different, limit, first, end)
        first, end = (at, end) if condition.operator in ("gt", "gte") else (first, at)
        return (self._codes >= first) & (self._codes < end)


class Columns(Generic[Row]):
    """The columns of some rows, made when a filter first wants them."""

    def __init__(self, rows: Sequence[Row], reader: Reader[Row]) -> None:
        self._rows, self._reader = rows, reader
        self._count = len(rows)
        self._occurred: Moments | None = None
        self._created: Moments | None = None
        self._tags: _Column | None = None
        self._keys: OrderedDict[str, _Column] = OrderedDict()
        self.size = 0
        """Bytes that they take, about."""

    def __len__(self) -> int:
        return self._count

    def extended(self, new: Sequence[Row]) -> Self:
        """The columns of the rows and of new ones behind them, which are read when a filter asks.

        What it costs does not depend on how many columns there are.
        """
        columns = type(self)([*self._rows, *new], self._reader)
        columns._occurred, columns._created = self._occurred, self._created
        columns._tags, columns.size = self._tags, self.size
        columns._keys.update(self._keys)
        return columns

    def renewed(self, rows: Sequence[Row]) -> Self:
        """The columns of other rows, most of which are among these: only what is new is read.

        Nothing is kept of those that are not among the others.
        """
        columns = type(self)(rows, self._reader)
        places = {id(row): place for place, row in enumerate(self._rows)}
        before = np.array([places.get(id(row), -1) for row in rows], np.int64)
        now = np.full(self._count, -1, np.int64)
        known = np.flatnonzero(before >= 0)
        now[before[known]] = known
        moved = _Moved(before, now)
        if 2 * len(moved.fresh) > len(rows):
            return columns
        if self._occurred is not None:
            occurred = self._moments(self._occurred, self._reader.occurred)
            columns._occurred = columns._moved(occurred, moved, self._reader.occurred)
        if self._created is not None:
            created = self._moments(self._created, self._reader.created)
            columns._created = columns._moved(created, moved, self._reader.created)
        tags = self._whole(self._tags, None)
        columns._tags = columns._renewed(tags, moved, None)
        for key, column in self._keys.items():
            renewed = columns._renewed(self._whole(column, key), moved, key)
            if renewed is not None:
                columns._keys[key] = renewed
        columns.size = columns._measured()
        return columns

    def _moments(self, known: Moments | None, read: Callable[[Row], int]) -> Moments:
        """Those of all rows; some, from the first on, may be known."""
        if known is None:
            return _moments(self._rows, read)
        if len(known) == self._count:
            return known
        return self._moved(known, _Moved.behind(len(known), self._count), read)

    def _moved(self, moments: Moments, moved: _Moved, read: Callable[[Row], int]) -> Moments:
        """The moments of these rows, of which some were elsewhere before."""
        found: Moments = np.zeros(self._count, np.int64)
        known = moved.before >= 0
        found[known] = moments[moved.before[known]]
        found[~known] = _moments((self._rows[place] for place in moved.fresh), read)
        return found

    def _whole(self, column: _Column | None, key: str | None) -> _Column | None:
        """The column with all rows; of tags where there is no key."""
        if column is None or len(column) == self._count:
            return column
        return self._renewed(column, _Moved.behind(len(column), self._count), key)

    def _renewed(self, column: _Column | None, moved: _Moved, key: str | None) -> _Column | None:
        """The column of these rows, of which some were elsewhere before."""
        if column is None:
            return None
        new = [self._rows[place] for place in moved.fresh]
        if key is None:
            return column.renewed(moved, [{"": self._reader.tags(row)} for row in new], "")
        return column.renewed(moved, [self._reader.metadata(row) for row in new], key)

    def mask(self, wanted: Filter) -> Mask:
        """Which of the records the filter lets through, shape (n,)."""
        mask = np.ones(self._count, np.bool_)
        if wanted.occurred:
            self._occurred = self._moments(self._occurred, self._reader.occurred)
            mask &= _inside(wanted.occurred, self._occurred)
        if wanted.created:
            self._created = self._moments(self._created, self._reader.created)
            mask &= _inside(wanted.created, self._created)
        if wanted.has_tags:
            mask &= self._by_tags(wanted)
        for condition in wanted.metadata:
            mask &= self._by_key(condition)
        self.size = self._measured()
        return mask

    def _by_tags(self, wanted: Filter) -> Mask:
        """Tags are as a list of texts in the metadata."""
        self._tags = self._whole(self._tags, None)
        if self._tags is None:
            tags = ({"": tags} for tags in self._read_tags())
            self._tags = _Column.of(tags, "", self._count)
        if self._tags is None:
            return np.array([wanted.admits_tags(tags) for tags in self._read_tags()], np.bool_)
        mask = np.ones(self._count, np.bool_)
        for condition in wanted.on_tags:
            mask &= self._tags.mask(condition)
        return mask

    def _by_key(self, condition: Condition) -> Mask:
        column = self._whole(self._keys.get(condition.key), condition.key)
        if column is None:
            column = _Column.of(self._read_metadata(), condition.key, self._count)
        if column is None:
            self._keys.pop(condition.key, None)
            return np.array([condition.holds(own) for own in self._read_metadata()], np.bool_)
        self._keys[condition.key] = column
        self._keys.move_to_end(condition.key)
        if len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)
        return column.mask(condition)

    def _read_tags(self) -> Iterator[Sequence[str]]:
        return map(self._reader.tags, self._rows)

    def _read_metadata(self) -> Iterator[Mapping[str, Any]]:
        return map(self._reader.metadata, self._rows)

    def _measured(self) -> int:
        moments = [one for one in (self._occurred, self._created) if one is not None]
        columns = chain(self._keys.values(), () if self._tags is None else (self._tags,))
        return sum(one.nbytes for one in moments) + sum(column.size for column in columns)


def _read(
    records: Iterable[tuple[int, Mapping[str, Any]]], key: str, most: float
) -> tuple[list[bool], list[int], list[Scalar]]:
    """Which of the records have the key, and the row and the value of each that there is.

    It ends once there are more values than `most`.
    """
    there: list[bool] = []
    rows: list[int] = []
    values: list[Scalar] = []
    for row, own in records:
        there.append(key in own)
        if key in own:
            found = scalars(own[key])
            rows += [row] * len(found)
            values += found
            if len(values) > most:
                break
    return there, rows, values


def _place(different: Sequence[Scalar], value: Scalar) -> int | None:
    """Where the value is; None where it is not."""
    place = bisect_left(different, value)
    return place if place < len(different) and different[place] == value else None


def _moments(rows: Iterable[Row], read: Callable[[Row], int]) -> Moments:
    return np.array([*map(read, rows)], np.int64)


def _value_bytes(value: Scalar) -> int:
    return _VALUE_BYTES + getsizeof(value.value)


def _inside(span: Span, moments: Moments) -> Mask:
    mask = np.ones(len(moments), np.bool_)
    if span.start is not None:
        mask &= moments >= to_microseconds(span.start)
    if span.end is not None:
        mask &= moments < to_microseconds(span.end)
    return mask
