"""The time that records and forgets are given: it never goes back."""

import secrets
import threading
from datetime import UTC, datetime, timedelta
from time import time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_COUNTS = 1 << 12
"""Ids that one millisecond has: the next one belongs to the next millisecond."""


class Clock:
    """Milliseconds since the epoch, and ids that are in their order.

    Drivers that share one can tell by the times which of two things was first. Threads may share
    one too.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ahead = 0.0
        self._last = 0
        self._count = 0
        self._version = _EPOCH

    def set_floor(self, seconds: float) -> None:
        """From now on it is later than that, in seconds since the epoch."""
        with self._lock:
            self._advance(int(1_000 * seconds) + 1)

    def follow(self, said: float, sent: float, received: float) -> None:
        """Another clock said that, between two moments of this machine's; all in seconds.

        From now on it is as far from that one as the time between the two leaves open, at most.
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
        """The same; what is asked for afterwards is later."""
        with self._lock:
            self._tick()
            ended = self._last
            self._advance(ended + 1)
            return _moment(ended)

    def version(self, over: datetime) -> datetime:
        """The `updated_at` of what replaces that version: later, and no other's; microseconds."""
        with self._lock:
            now = _EPOCH + timedelta(microseconds=int(1_000_000 * time() + 1_000 * self._ahead))
            self._version = max(now, over + _MICROSECOND, self._version + _MICROSECOND)
            return self._version

    def new_id(self) -> tuple[str, datetime]:
        """A UUIDv7, which is greater than any before, and its own time.

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
    return _EPOCH + timedelta(milliseconds=milliseconds)


CLOCK = Clock()
"""This process's."""
