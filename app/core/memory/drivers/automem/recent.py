"""What this process did that AutoMem's vectors may not know yet."""

import time
from collections import OrderedDict
from collections.abc import Iterable

_SECONDS = 120.0
_ENTRIES = 20_000


class Recent:
    """Records that were stored without a vector yet, and records that were deleted.

    Bounded: what is older than two minutes and not embedded is forgotten, and the oldest of more
    than 20,000.
    """

    def __init__(self) -> None:
        self._unembedded: OrderedDict[str, tuple[float, frozenset[str]]] = OrderedDict()
        self._deleted: OrderedDict[str, float] = OrderedDict()

    def stored(self, record_id: str, tags: Iterable[str]) -> None:
        """`record_id` has no vector yet; it is in the scopes of `tags`."""
        self._unembedded[record_id] = (time.monotonic(), frozenset(tags))
        while len(self._unembedded) > _ENTRIES:
            self._unembedded.popitem(last=False)

    def embedded(self, record_id: str) -> None:
        self._unembedded.pop(record_id, None)

    def deleted(self, record_id: str) -> None:
        self._unembedded.pop(record_id, None)
        self._deleted[record_id] = time.monotonic()
        while len(self._deleted) > _ENTRIES:
            self._deleted.popitem(last=False)

    def was_deleted(self, record_id: str) -> bool:
        return record_id in self._deleted

    def unembedded(self, tag: str) -> set[str]:
        """The records of the scope `tag` that AutoMem may not find by meaning yet."""
        end = time.monotonic() - _SECONDS
        while self._unembedded:
            first = next(iter(self._unembedded))
            if self._unembedded[first][0] >= end:
                break
            del self._unembedded[first]
        return {key for key, (_, tags) in self._unembedded.items() if tag in tags}
