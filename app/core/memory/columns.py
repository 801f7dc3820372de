"""What filters compare of many records, in columns: a filter is asked once for each other value."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from app.core.memory.filter import Condition, Filter, Span
from app.core.memory.moments import to_microseconds

_MOST_KEYS: Final = 8
"""Keys of the metadata whose columns are kept."""
_ABSENT: Final = object()

Mask = npt.NDArray[np.bool_]
Moments = npt.NDArray[np.int64]
"""Microseconds since 1970, UTC."""


class _Column:
    """The different values of n records, and which of them each has."""

    def __init__(self, values: Iterable[Any], same: Callable[[Any], Hashable]) -> None:
        self._different: list[Any] = []
        places: dict[Hashable, int] = {}
        codes: list[int] = []
        for value in values:
            place = places.setdefault(same(value), len(places))
            if place == len(self._different):
                self._different.append(value)
            codes.append(place)
        self._codes = np.array(codes, np.int32)

    def mask(self, holds: Callable[[Any], bool]) -> Mask:
        """Whether it holds for each record's value."""
        found: Mask = np.array([holds(value) for value in self._different], np.bool_)[self._codes]
        return found


class Columns:
    """The columns of n records, made when a filter first wants them."""

    def __init__(
        self,
        occurred: Moments,
        created: Callable[[], Moments],
        tags: Callable[[], Iterable[Sequence[str]]],
        metadata: Callable[[], Iterable[Mapping[str, Any]]],
    ) -> None:
        """`created`, `tags` and `metadata` give those of every record, in the same order."""
        self._occurred = occurred
        self._read_created, self._read_tags, self._read_metadata = created, tags, metadata
        self._created: Moments | None = None
        self._tags: _Column | None = None
        self._keys: OrderedDict[str, _Column] = OrderedDict()

    def mask(self, wanted: Filter) -> Mask:
        """Which of the records the filter lets through, shape (n,)."""
        mask = np.ones(len(self._occurred), np.bool_)
        if wanted.occurred:
            mask &= _inside(wanted.occurred, self._occurred)
        if wanted.created:
            if self._created is None:
                self._created = self._read_created()
            mask &= _inside(wanted.created, self._created)
        if wanted.has_tags:
            if self._tags is None:
                self._tags = _Column(self._read_tags(), tuple)
            mask &= self._tags.mask(wanted.admits_tags)
        for condition in wanted.metadata:
            mask &= self._key(condition.key).mask(partial(_holds, condition))
        return mask

    def _key(self, key: str) -> _Column:
        column = self._keys.get(key)
        if column is None:
            values = (own.get(key, _ABSENT) for own in self._read_metadata())
            column = self._keys[key] = _Column(values, _same)
            if len(self._keys) > _MOST_KEYS:
                self._keys.popitem(last=False)
        self._keys.move_to_end(key)
        return column


def _holds(condition: Condition, value: Any) -> bool:
    return condition.holds({} if value is _ABSENT else {condition.key: value})


def _same(value: Any) -> Hashable:
    """The same for the same value alone: to Python 1, 1.0 and true are one key."""
    if isinstance(value, str) or value is _ABSENT:
        return value
    return type(value), repr(value)


def _inside(span: Span, moments: Moments) -> Mask:
    mask = np.ones(len(moments), np.bool_)
    if span.start is not None:
        mask &= moments >= to_microseconds(span.start)
    if span.end is not None:
        mask &= moments < to_microseconds(span.end)
    return mask
