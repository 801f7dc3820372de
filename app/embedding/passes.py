"""Whose pass is next: an engine runs one at a time, or a few."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import inf
from threading import Lock
from time import monotonic

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared

_LATELY_SECONDS = 1.0


class Passes:
    """The passes of one engine, `at_once` at a time; threads that wait go in their order.

    A lock of Python's has no order: a thread that gives it back and asks again at once would keep
    it from the one that waits.
    """

    def __init__(self, engine: Engine, now: Callable[[], float] = monotonic) -> None:
        """`now` gives seconds."""
        self.engine = engine
        self._now = now
        self._lock = Lock()
        self._free = engine.at_once
        self._waiting: deque[Lock] = deque()
        """Each is released when the turn of its thread has come."""
        self._queried_at = -inf

    def run(self, batch: Sequence[Prepared], *, query: bool) -> Vector:
        """One pass, as soon as it may run; `query` tells that a caller's recall waits for it."""
        if query:
            self._queried_at = inf
        try:
            with self._turn():
                return self.engine.run(batch)
        finally:
            if query:
                self._queried_at = self._now()

    @property
    def make_queries_wait(self) -> bool:
        """Whether a pass of texts would: a query waits now, or did within the last second."""
        lately = self._now() - self._queried_at < _LATELY_SECONDS
        return self.engine.at_once == 1 and lately

    @contextmanager
    def _turn(self) -> Iterator[None]:
        own = Lock()
        with self._lock:
            own.acquire()
            if self._free:
                self._free -= 1
                own.release()
            else:
                self._waiting.append(own)
        own.acquire()
        try:
            yield
        finally:
            with self._lock:
                if self._waiting:
                    self._waiting.popleft().release()
                else:
                    self._free += 1
