"""What this process stored that AutoMem may not have embedded yet."""

import time
from collections import OrderedDict
from collections.abc import Iterable

_SECONDS = 120.0
_ENTRIES = 20_000


class Unembedded:
    """Records that were stored without a vector.

    Bounded: what is older than two minutes and not embedded is forgotten, and the oldest of more
    than 20,000.
    """

    def __init__(self) -> None:
        self._stored: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()

    def add(self, record_id: str, tags: Iterable[str]) -> None:
        """`record_id` has no vector yet; it is in the scopes of `tags`."""
        self._stored[record_id] = (time.monotonic(), frozenset(tags))
        while len(self._stored) > _ENTRIES:
            self._stored.popitem(last=False)

    def remove(self, record_id: str) -> None:
        """`record_id` has a vector now, or is gone."""
        self._stored.pop(record_id, None)

    def of_scope(self, tag: str) -> set[str]:
        """The records of the scope `tag` that AutoMem may not find by meaning yet."""
        end = time.monotonic() - _SECONDS
        while self._stored:
            first = next(iter(self._stored))
            if self._stored[first][0] >= end:
                break
            del self._stored[first]
        return {key for key, (_, tags) in self._stored.items() if tag in tags}
