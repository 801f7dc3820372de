"""Answers kept in this process, for one replica of the service."""

from collections import Counter
from contextlib import suppress
from itertools import count
from math import inf
from typing import Any

from cachetools import LRUCache, TLRUCache, TTLCache

from app.settings import CacheSettings
from app.wrappers.cache.store import ALL, UNCERTAIN_SECONDS, Answer, CacheStore, Found, Write

MEGABYTES = 64
"""Size of the answers at most, some ten thousand: little beside the model."""
_OVERHEAD = 500
"""Bytes of an entry besides its value: the key, the stamp and the links of the cache."""

_GENERATIONS = 100_000
_SPARE = 1_000


class InProcessStore(CacheStore):
    """Forgets what is too old, then what was not used for the longest time."""

    kind = "in process"

    def __init__(self, settings: CacheSettings) -> None:
        self._values: TLRUCache[str, Answer] = TLRUCache(
            MEGABYTES * 1_000_000,
            lambda _, answer, now: now + min(answer.seconds, settings.ttl),
            getsizeof=_size,
        )
        self._keys: dict[str, set[str]] = {}
        """By scope, those of its values, and of some that are gone."""
        self._noted = 0
        self._numbers = count()
        # One that was dropped is made anew, with a number that no value has.
        self._generations: LRUCache[str, int] = LRUCache(_GENERATIONS)
        self._writing: Counter[str] = Counter()
        self._uncertain: TTLCache[str, None] = TTLCache(inf, UNCERTAIN_SECONDS)

    async def find(self, key: str, scope: str) -> Found:
        if any(each in self._writing or each in self._uncertain for each in (ALL, scope)):
            return Found(None)
        stamp = b"%d %d" % (self._generation(ALL), self._generation(scope))
        kept = self._values.get(key)
        return Found(stamp, kept.value if kept is not None and kept.stamp == stamp else None)

    async def keep(self, key: str, scope: str, answer: Answer) -> None:
        current = (await self.find(key, scope)).stamp
        if answer.stamp == current and _size(answer) <= self._values.maxsize:
            self._values[key] = answer
            self._note(key, scope)

    async def begin(self, write: Write) -> None:
        for scope in write.scopes:
            self._writing[scope] += 1
            self._renew(scope)

    async def end(self, write: Write, *, certain: bool) -> None:
        for scope in write.scopes:
            self._renew(scope)
            self._drop(scope)
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
        self._drop(ALL)

    def _note(self, key: str, scope: str) -> None:
        self._keys.setdefault(scope, set()).add(key)
        self._noted += 1
        if self._noted > 2 * len(self._values) + _SPARE:  # most of those noted are gone
            there = ((scope, keys & self._values.keys()) for scope, keys in self._keys.items())
            self._keys = {scope: keys for scope, keys in there if keys}
            self._noted = sum(map(len, self._keys.values()))

    def _drop(self, scope: str) -> None:
        if scope == ALL:
            self._values.clear()
            self._keys.clear()
        for key in self._keys.pop(scope, ()):
            with suppress(KeyError):  # it may end at this moment
                del self._values[key]

    def _generation(self, scope: str) -> int:
        number = self._generations.get(scope)
        return self._renew(scope) if number is None else number

    def _renew(self, scope: str) -> int:
        self._generations[scope] = number = next(self._numbers)
        return number


def _size(answer: Answer) -> int:
    return len(answer.value) + _OVERHEAD
