"""What this process wrote lately, which Pinecone may not show yet: every read is laid over with it.

Pinecone acknowledges a write before its queries, fetches and lists show it, each at a time of its
own, and one server may be behind another. So a write stays here for `SECONDS`, whatever was seen of
it meanwhile. An answer that tells how far the log goes that it shows is believed about what was
written before: so what another process has deleted since is not laid over it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from app.errors import DriverUnavailable

SECONDS: Final = 120.0
"""How long Pinecone may take to show a write everywhere: "seconds" by its documentation, and what
its own tests wait for at most."""
MOST_BYTES: Final = 128_000_000
_AN_ENTRY: Final = 400


class Versioned(Protocol):
    """A value that has a version, and takes some bytes."""

    @property
    def version(self) -> int: ...

    @property
    def size(self) -> int: ...


Value = TypeVar("Value", bound=Versioned)


@dataclass(frozen=True, slots=True)
class Written(Generic[Value]):
    """A write: the value that was kept, or None where what had the `version` was deleted."""

    value: Value | None
    version: int
    lsn: int | None
    at: float

    @property
    def size(self) -> int:
        return _AN_ENTRY + (0 if self.value is None else self.value.size)


class Overlay(Generic[Value]):
    """The last writes by their namespaces and ids, within `SECONDS` and `MOST_BYTES`."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._written: dict[tuple[str, str], Written[Value]] = {}
        """The oldest first."""
        self._in: dict[str, dict[str, Written[Value]]] = defaultdict(dict)
        self._indexed: dict[str, int] = {}
        self.size = 0

    @property
    def fullness(self) -> float:
        """Which share of its room is taken, 0..1."""
        self._expire()
        return self.size / MOST_BYTES

    def keep(self, namespace: str, one: str, value: Value, lsn: int | None) -> None:
        """The value was kept under the id."""
        self._put(namespace, one, Written(value, value.version, lsn, self._seconds()))

    def delete(self, namespace: str, one: str, version: int, lsn: int | None) -> None:
        """What was under the id, in that version or an older one, was deleted."""
        self._put(namespace, one, Written(None, version, lsn, self._seconds()))

    def find(self, namespace: str, one: str) -> Written[Value] | None:
        """The last write of the id."""
        self._expire()
        return self._in.get(namespace, {}).get(one)

    def written(self, namespace: str) -> Mapping[str, Written[Value]]:
        """All writes of the namespace, by their ids; not to be kept."""
        self._expire()
        return self._in.get(namespace, {})

    def namespaces(self) -> Iterator[str]:
        """Those that have a write."""
        self._expire()
        return iter([*self._in])

    def over(self, namespace: str, one: str, found: Value | None) -> Value | None:
        """What is under the id, where an answer that tells no LSN had `found` there."""
        known = self.find(namespace, one)
        if known is None or (found is not None and found.version > known.version):
            return found
        return known.value

    def laid_over(
        self, namespace: str, found: Mapping[str, Value], lsn: int | None
    ) -> tuple[dict[str, Value], dict[str, Value]]:
        """What was `found` as it is now, and what may be missing there, by the ids.

        `lsn`: how far the log goes that the answer shows.
        """
        self.note(namespace, lsn)
        now, more = dict(found), dict[str, Value]()
        for one, known in self.written(namespace).items():
            there = found.get(one)
            shown = lsn is not None and known.lsn is not None and known.lsn <= lsn
            if there is None:
                if not shown and known.value is not None:
                    more[one] = known.value
            elif known.value is None:
                if not shown and there.version <= known.version:
                    del now[one]
            elif there.version <= known.version:
                now[one] = known.value
        return now, more

    def behind(self, size: int) -> str | None:
        """None where there is room for so many bytes; else where the oldest write is.

        What an answer has shown goes, the oldest first, where room is needed.
        """
        self._expire()
        for (namespace, one), known in [*self._written.items()]:
            if self.size + size <= MOST_BYTES:
                return None
            if known.lsn is None or known.lsn > self._indexed.get(namespace, -1):
                return namespace
            self._drop(namespace, one)
        return None

    def note(self, namespace: str, lsn: int | None) -> None:
        """An answer shows the namespace's log up to there."""
        if lsn is not None:
            self._indexed[namespace] = max(lsn, self._indexed.get(namespace, 0))

    def clear(self) -> None:
        """Forget everything."""
        self._written.clear()
        self._in.clear()
        self._indexed.clear()
        self.size = 0

    def _put(self, namespace: str, one: str, written: Written[Value]) -> None:
        if (namespace, one) in self._written:
            self._drop(namespace, one)
        self._written[namespace, one] = self._in[namespace][one] = written
        self.size += written.size

    def _drop(self, namespace: str, one: str) -> None:
        self.size -= self._written.pop((namespace, one)).size
        own = self._in[namespace]
        del own[one]
        if not own:
            del self._in[namespace]
            self._indexed.pop(namespace, None)

    def _expire(self) -> None:
        since = self._seconds() - SECONDS
        for namespace, one in [*self._until(since)]:
            self._drop(namespace, one)

    def _until(self, since: float) -> Iterator[tuple[str, str]]:
        for key, known in self._written.items():
            if known.at > since:
                return
            yield key


def too_many() -> DriverUnavailable:
    """More was written than is kept until Pinecone shows it."""
    return DriverUnavailable(reason="Pinecone does not show yet what was written: too much at once")
