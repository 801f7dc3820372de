"""What this process stored that AutoMem may not have embedded yet."""

import time
from collections import OrderedDict
from collections.abc import Iterable
from datetime import datetime

from app.core.memory.records import Record, record_id

_SECONDS = 120.0
_ENTRIES = 20_000


class Unembedded:
    """Records that were stored without a vector.

    Bounded: what is older than two minutes and not embedded is forgotten, and the oldest of more
    than 20,000.
    """

    def __init__(self) -> None:
        self._stored: OrderedDict[str, tuple[float, frozenset[str], datetime]] = OrderedDict()

    def add(self, record: Record, tags: Iterable[str]) -> None:
        """This version of the record has no vector yet; it is in the scopes of `tags`."""
        key = record_id(record)
        self._stored[key] = (time.monotonic(), frozenset(tags), record.updated_at)
        self._stored.move_to_end(key)
        while len(self._stored) > _ENTRIES:
            self._stored.popitem(last=False)

    def remove(self, record: Record) -> None:
        """This version of the record has a vector now, or is gone; a later one may have none."""
        there = self._stored.get(record_id(record))
        if there is not None and there[2] <= record.updated_at:
            del self._stored[record_id(record)]

    def of_scope(self, tag: str) -> set[str]:
        """The records of the scope `tag` that AutoMem may not find by meaning yet."""
        end = time.monotonic() - _SECONDS
        while self._stored:
            first = next(iter(self._stored))
            if self._stored[first][0] >= end:
                break
            del self._stored[first]
        return {key for key, (_, tags, _) in self._stored.items() if tag in tags}
