"""The clock that times records, versions and forgets: it never goes back."""

import secrets
import threading
from datetime import datetime
from time import time
from uuid import UUID

from app.core.memory.moments import EPOCH, MICROSECOND, from_microseconds, to_microseconds

_COUNTS = 1 << 12
"""Ids that one millisecond has: the next one belongs to the next millisecond."""


class Clock:
    """Gives times in milliseconds, and ids in the order of those times.

    Drivers that share a clock agree which of two writes came first. Threads may share it too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead = 0.0
        self._last = 0
        self._count = 0
        self._version = EPOCH

    def set_floor(self, seconds: float) -> None:
        """Let every later time be after this one, in seconds since the epoch."""
        with self._lock:
            self._advance(int(1_000 * seconds) + 1)

    def follow(self, said: float, sent: float, received: float) -> None:
        """Follow another clock, which read `said` between `sent` and `received` of this machine.

        All are seconds since the epoch. The two clocks then differ by `received - sent` at most.
        """
        with self._lock:
            least, most = 1_000 * (said - received), 1_000 * (said - sent)
            self._ahead = min(max(self._ahead, least), most)

    def now(self) -> datetime:
        """UTC, in whole milliseconds."""
        with self._lock:
            self._tick()
            return _moment(self._last)

    def end_of_now(self) -> datetime:
        """The current millisecond; every time and id that is given afterwards is later."""
        with self._lock:
            self._tick()
            ended = self._last
            self._advance(ended + 1)
            return _moment(ended)

    def version(self, over: datetime) -> datetime:
        """The `updated_at`, in microseconds, of what replaces the version `over`.

        It is later than `over` and than every version that this clock gave before.
        """
        with self._lock:
            now = from_microseconds(int(1_000_000 * time() + 1_000 * self._ahead))
            self._version = max(now, over + MICROSECOND, self._version + MICROSECOND)
            return self._version

    def new_id(self) -> tuple[str, datetime]:
        """A UUIDv7 that is greater than every earlier one, and the time in it.

        RFC 9562, section 6.2, method 1: 48 bits of milliseconds, 12 that count, 62 random ones.
        """
        with self._lock:
            self._tick()
            self._count += 1
            if self._count == _COUNTS:
                self._advance(self._last + 1)
            last, count = self._last, self._count
        bits = last << 80 | 7 << 76 | count << 64 | 2 << 62 | secrets.randbits(62)
        digits = f"{bits:032x}"
        made = "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
        return made, _moment(last)

    def _tick(self) -> None:
        self._advance(int(1_000 * time() + self._ahead))

    def _advance(self, to: int) -> None:
        if to > self._last:
            self._last = to
            self._count = secrets.randbits(8)  # so that an id does not tell how many there were


def _moment(milliseconds: int) -> datetime:
    return from_microseconds(1_000 * milliseconds)


def ids_at(moment: datetime, count: int) -> list[str]:
    """As many UUIDv7 of that millisecond, each greater than the one before; 65,536 at most."""
    milliseconds = to_microseconds(moment) // 1_000
    return [
        str(
            UUID(
                int=milliseconds << 80
                | 7 << 76
                | n >> 4 << 64
                | 2 << 62
                | (n & 15) << 58
                | secrets.randbits(58)
            )
        )
        for n in range(count)
    ]


CLOCK = Clock()
"""The clock of this process."""
