"""Answers kept in this process, for one replica of the service."""

from collections import Counter
from itertools import count
from math import inf
from typing import Any

from cachetools import LRUCache, TTLCache

from app.settings import CacheSettings
from app.wrappers.cache.store import ALL, UNCERTAIN_SECONDS, CacheStore, Found, Write

MEGABYTES = 64
"""Size of the answers at most, some ten thousand: little beside the model."""
_OVERHEAD = 500
"""Bytes of an entry besides its value: the key, the stamp and the links of the cache."""

_GENERATIONS = 100_000


class InProcessStore(CacheStore):
    """Forgets what is too old, then what was not used for the longest time."""

    kind = "in process"

    def __init__(self, settings: CacheSettings) -> None:
        self._values: TTLCache[str, tuple[bytes, bytes]] = TTLCache(
            MEGABYTES * 1_000_000, settings.ttl, getsizeof=_size
        )
        self._numbers = count()
        # One that was dropped is made anew, with a number that no value has.
        self._generations: LRUCache[str, int] = LRUCache(_GENERATIONS)
        self._writing: Counter[str] = Counter()
        self._uncertain: TTLCache[str, None] = TTLCache(inf, UNCERTAIN_SECONDS)

    async def find(self, key: str, scope: str) -> Found:
        if any(each in self._writing or each in self._uncertain for each in (ALL, scope)):
            return Found(None)
        stamp = b"%d %d" % (self._generation(ALL), self._generation(scope))
        kept_with, value = self._values.get(key, (b"", None))
        return Found(stamp, value if kept_with == stamp else None)

    async def keep(self, key: str, stamp: bytes, value: bytes) -> None:
        if _size((stamp, value)) <= self._values.maxsize:
            self._values[key] = stamp, value

    async def begin(self, write: Write) -> None:
        for scope in write.scopes:
            self._writing[scope] += 1
            self._renew(scope)

    async def end(self, write: Write, *, certain: bool) -> None:
        for scope in write.scopes:
            self._renew(scope)
            if not certain:
                self._uncertain[scope] = None
            self._writing[scope] -= 1
            if self._writing[scope] <= 0:
                del self._writing[scope]

    async def check(self) -> str | None:
        return None

    def facts(self) -> dict[str, Any]:
        return {"entries": len(self._values), "megabytes": round(self._values.currsize / 1e6, 3)}

    async def close(self) -> None:
        self._values.clear()

    def _generation(self, scope: str) -> int:
        number = self._generations.get(scope)
        return self._renew(scope) if number is None else number

    def _renew(self, scope: str) -> int:
        self._generations[scope] = number = next(self._numbers)
        return number


def _size(kept: tuple[bytes, bytes]) -> int:
    return len(kept[1]) + _OVERHEAD
