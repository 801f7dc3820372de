"""Dates: those that a query names, and when a memory says that it happened."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

_MONTHS = {
    name: n
    for n, name in enumerate(
        [
            *("january", "february", "march", "april", "may", "june"),
            *("july", "august", "september", "october", "november", "december"),
        ],
        start=1,
    )
}
_SHORT = {name[:3]: n for name, n in _MONTHS.items()} | {"sept": 9}
_NAME = "|".join(sorted((*_MONTHS, *_SHORT), key=len, reverse=True))
_DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
_YEAR = r"(?P<year>(?:19|20)\d\d)"

_DAYS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{_YEAR}-(?P<number>[01]?\d)-{_DAY}(?!\d)",
        rf"\b{_DAY}(?: of)? (?P<month>{_NAME})\.?,?(?: of)? {_YEAR}\b",
        rf"\b(?P<month>{_NAME})\.? {_DAY},? {_YEAR}\b",
    )
)
_MONTH = re.compile(rf"\b(?P<month>{_NAME})\.?,?(?: of)? {_YEAR}\b")
_ISO_MONTH = re.compile(rf"\b{_YEAR}-(?P<number>[01]\d)\b(?!-\d)")
_YEAR_ALONE = re.compile(rf"\b{_YEAR}\b")

_AFTER_A_DAY = timedelta(days=7)
_AFTER_A_MONTH = timedelta(days=3)
"""People tell of a day in the week after it, and of a month or year until its first days are by."""

_FIRST_SECOND = 1e8
"""A number of at least so many seconds since 1970 is a time; less counts something else."""

_MILLISECONDS = 1e11

_WHEN = ("date", "datetime", "timestamp", "created_at", "time")
"""Fields of the metadata that may say when a memory happened, the first that does counts."""


def dates_named(query: str) -> tuple[datetime, datetime] | None:
    """The time, from its start to before its end, of memories that tell of the date in `query`.

    A day, month or year, in English or as ISO 8601: 8 May 2023, May 8th, 2023, May 2023, 2023,
    2023-05-08, 2023-05. None if the query names no date.
    """
    text = query.casefold()
    named = _day(text)
    if named is not None:
        return _span(named, named + timedelta(days=1) + _AFTER_A_DAY)
    match = _MONTH.search(text) or _ISO_MONTH.search(text)
    if match is not None and 1 <= (month := _month(match)) <= 12:
        start = date(int(match["year"]), month, 1)
        return _span(start, (start + timedelta(days=31)).replace(day=1) + _AFTER_A_MONTH)
    match = _YEAR_ALONE.search(text)
    if match is not None:
        year = int(match["year"])
        return _span(date(year, 1, 1), date(year + 1, 1, 1) + _AFTER_A_MONTH)
    return None


def occurred_at(metadata: Mapping[str, Any], created_at: datetime) -> datetime:
    """When a memory happened: as its metadata says, in a text with a date, or in seconds or
    milliseconds since 1970.

    Otherwise it is `created_at`. Without an offset a time is UTC.
    """
    for name in _WHEN:
        found = _parsed(metadata.get(name))
        if found is not None:
            return found
    return created_at


def _parsed(value: Any) -> datetime | None:
    try:
        if isinstance(value, (int, float)):
            if not value >= _FIRST_SECOND:  # not a number neither
                return None
            return datetime.fromtimestamp(value / 1000 if value > _MILLISECONDS else value, UTC)
        if not isinstance(value, str) or len(value) > 100:
            return None
        parsed = datetime.fromisoformat(value.strip())
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        named = _day(value.casefold()) if isinstance(value, str) else None
        return _midnight(named) if named is not None else None


def _day(text: str) -> date | None:
    for pattern in _DAYS:
        match = pattern.search(text)
        if match is not None:
            try:
                return date(int(match["year"]), _month(match), int(match["day"]))
            except ValueError:
                continue
    return None


def _month(match: re.Match[str]) -> int:
    parts = match.groupdict()
    name = parts.get("month")
    return int(parts["number"]) if name is None else _MONTHS.get(name) or _SHORT[name]


def _span(start: date, end: date) -> tuple[datetime, datetime]:
    return _midnight(start), _midnight(end)


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
