"""What filters compare of many records, in columns: numpy finds which of them have a value.

A column answers for its key as `Condition.holds` does for each record.
"""

from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from operator import attrgetter
from sys import getsizeof
from typing import Any, Final

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

Mask = npt.NDArray[np.bool_]
Moments = npt.NDArray[np.int64]
"""Microseconds since 1970, UTC."""

_kind = attrgetter("kind")


class _Column:
    """The different values at one key, in order, and which of n records has which."""

    def __init__(self, there: Sequence[bool], rows: Sequence[int], values: Sequence[Scalar]):
        """`there`: which records have the key; each of `rows` has the value beside it."""
        self._there: Mask = np.array(there, np.bool_)
        self._rows = np.array(rows, np.int32)
        self._different = sorted(set(values))
        self._places = {value: place for place, value in enumerate(self._different)}
        self._codes = np.array([self._places[value] for value in values], np.int32)
        arrays = self._there.nbytes + self._rows.nbytes + self._codes.nbytes
        self.size = arrays + sum(map(_value_bytes, self._different))
        """Bytes that it takes, about."""

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
            places = [self._places[one] for one in condition.values if one in self._places]
            return np.isin(self._codes, places)
        (limit,) = condition.values
        first = bisect_left(self._different, limit.kind, key=_kind)
        end = bisect_right(self._different, limit.kind, key=_kind)
        # What is above comes after the limit, and what is below ends with it.
        own = condition.operator in ("gte", "lt")
        at = (bisect_left if own else bisect_right)(self._different, limit, first, end)
        first, end = (at, end) if condition.operator in ("gt", "gte") else (first, at)
        return (self._codes >= first) & (self._codes < end)


class Columns:
    """The columns of n records, made when a filter first wants them."""

    def __init__(
        self,
        count: int,
        *,
        occurred: Callable[[], Moments],
        created: Callable[[], Moments],
        tags: Callable[[], Iterable[Sequence[str]]],
        metadata: Callable[[], Iterable[Mapping[str, Any]]],
    ) -> None:
        """Each gives those of all `count` records, in one order."""
        self._count = count
        self._read_occurred, self._read_created = occurred, created
        self._read_tags, self._read_metadata = tags, metadata
        self._occurred: Moments | None = None
        self._created: Moments | None = None
        self._tags: _Column | None = None
        self._keys: OrderedDict[str, _Column] = OrderedDict()
        self.size = 0
        """Bytes that they take, about."""

    def mask(self, wanted: Filter) -> Mask:
        """Which of the records the filter lets through, shape (n,)."""
        mask = np.ones(self._count, np.bool_)
        if wanted.occurred:
            if self._occurred is None:
                self._occurred = self._read_occurred()
            mask &= _inside(wanted.occurred, self._occurred)
        if wanted.created:
            if self._created is None:
                self._created = self._read_created()
            mask &= _inside(wanted.created, self._created)
        if wanted.has_tags:
            mask &= self._by_tags(wanted)
        for condition in wanted.metadata:
            mask &= self._by_key(condition)
        self.size = self._measured()
        return mask

    def _by_tags(self, wanted: Filter) -> Mask:
        """Tags are as a list of texts in the metadata."""
        if self._tags is None:
            self._tags = _column(({"": tags} for tags in self._read_tags()), "", self._count)
        if self._tags is None:
            return np.array([wanted.admits_tags(tags) for tags in self._read_tags()], np.bool_)
        mask = np.ones(self._count, np.bool_)
        for condition in wanted.on_tags:
            mask &= self._tags.mask(condition)
        return mask

    def _by_key(self, condition: Condition) -> Mask:
        column = self._keys.get(condition.key)
        if column is None:
            column = _column(self._read_metadata(), condition.key, self._count)
        if column is None:
            return np.array([condition.holds(own) for own in self._read_metadata()], np.bool_)
        self._keys[condition.key] = column
        self._keys.move_to_end(condition.key)
        if len(self._keys) > _MOST_KEYS:
            self._keys.popitem(last=False)
        return column.mask(condition)

    def _measured(self) -> int:
        moments = [one for one in (self._occurred, self._created) if one is not None]
        columns = chain(self._keys.values(), () if self._tags is None else (self._tags,))
        return sum(one.nbytes for one in moments) + sum(column.size for column in columns)


def _column(records: Iterable[Mapping[str, Any]], key: str, count: int) -> _Column | None:
    """The column of a key; None where the records have too many values there."""
    there: list[bool] = []
    rows: list[int] = []
    values: list[Scalar] = []
    for row, own in enumerate(records):
        there.append(key in own)
        if key in own:
            found = scalars(own[key])
            rows += [row] * len(found)
            values += found
            if len(values) > _MOST_VALUES * count:
                return None
    return _Column(there, rows, values)


def _value_bytes(value: Scalar) -> int:
    return _VALUE_BYTES + getsizeof(value.value)


def _inside(span: Span, moments: Moments) -> Mask:
    mask = np.ones(len(moments), np.bool_)
    if span.start is not None:
        mask &= moments >= to_microseconds(span.start)
    if span.end is not None:
        mask &= moments < to_microseconds(span.end)
    return mask
