"""The hours in which records are to be deleted: all hours of the past are a few spans with names.

Hours are counted since 2026, and so are spans of 10, 100, 1,000 and 10,000 of them. A record has
the names of the five spans that its moment is in. The hours that have ended are a few whole spans,
of every size but the largest at most nine.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

_START = datetime(2026, 1, 1, tzinfo=UTC)
_HOUR = timedelta(hours=1)
_SIZES = (10_000, 1_000, 100, 10, 1)


def hours_of(moment: datetime) -> list[str]:
    """The names of the spans that the moment is in; one before 2026 counts as of its first hour."""
    hour = max(0, (moment - _START) // _HOUR)
    return [_name(size, hour // size) for size in _SIZES]


def ended_hours(now: datetime) -> list[str]:
    """The names of the spans that are all hours before this one, none of them in two spans."""
    return list(_ended(max(0, (now - _START) // _HOUR)))


def _ended(hours: int) -> Iterator[str]:
    done = 0
    for size in _SIZES:
        for number in range(done // size, hours // size):
            yield _name(size, number)
        done = hours - hours % size


def _name(size: int, number: int) -> str:
    return f"{size}:{number}"
