"""An event loop whose time passes only while nothing can go on, and SQLite without threads on it.

What runs on it depends on nothing but its arguments: a minute of waiting takes no time, and what
failed once fails again.
"""

import asyncio
import selectors
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from random import Random
from typing import Any, TypeVar

import aiosqlite.core
import pytest

from app.core.memory.clock import CLOCK

T = TypeVar("T")

_EPOCH = 1_900_000_000.0
"""What `time()` says at first."""
_STATEMENT_SECONDS = 0.0004
"""The longest that SQLite takes for a statement."""


class _Jumps(selectors.SelectSelector):
    """Waits for nothing: lets the time pass instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("Everything waits, and nothing will ever go on.")
        if timeout > 0:
            self.now += timeout + 1e-9
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time jumps to the next moment for which something waits."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


class _NoThread:
    """In the place of the thread that SQLite's client has."""

    daemon = True

    def __init__(self, **_: object) -> None:
        pass

    def start(self) -> None:
        pass


def _queue(random: Random) -> Callable[[], Any]:
    """What makes the queue of that thread: the loop does in its order what is put there."""

    class Queue:
        last = 0.0

        def put_nowait(self, item: tuple[asyncio.Future[Any] | None, Callable[[], Any]]) -> None:
            future, wanted = item
            if future is None:  # nobody waits, and no loop may be there any more
                wanted()
                return
            loop = future.get_loop()
            self.last = max(self.last + 1e-6, loop.time() + random.uniform(0, _STATEMENT_SECONDS))
            loop.call_at(self.last, self._do, future, wanted)

        def _do(self, future: asyncio.Future[Any], wanted: Callable[[], Any]) -> None:
            try:
                answer = wanted()
            except Exception as error:  # noqa: BLE001 - whoever asked gets it
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(answer)

    return Queue


def _clocks() -> Iterator[tuple[object, str, bool]]:
    """Where the service has a clock's function, and whether that is the wall's."""
    for name, module in list(sys.modules.items()):
        if name.startswith("app."):
            for attribute, value in list(vars(module).items()):
                if any(value is each for each in (time.time, time.monotonic, time.perf_counter)):
                    yield module, attribute, value is time.time


@contextmanager
def _patched(loop: VirtualLoop, random: Random) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        for module, attribute, wall in _clocks():
            now = (lambda: _EPOCH + loop.time()) if wall else loop.time
            patched.setattr(module, attribute, now)
        for name, value in vars(CLOCK).items():  # as it was, afterwards: it never goes back
            patched.setattr(CLOCK, name, value)
        patched.setattr(aiosqlite.core, "Thread", _NoThread)
        patched.setattr(aiosqlite.core, "SimpleQueue", _queue(random))
        yield


def run(main: Callable[[], Awaitable[T]], random: Random) -> T:
    """What `main` gives, on a loop of its own."""

    async def whole() -> T:
        return await main()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, VirtualLoop)
        with _patched(loop, random):
            return runner.run(whole())
