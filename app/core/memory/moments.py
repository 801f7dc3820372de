"""Moments as whole microseconds since the epoch, which is what versions and places are kept as."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_microseconds(moment: datetime) -> int:
    """Of a moment that has a time zone; without the error of a float."""
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(count: int) -> datetime:
    """The moment in UTC; raises `OverflowError` where a datetime can't be that."""
    return EPOCH + count * MICROSECOND
