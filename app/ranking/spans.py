"""Spans of days, each as long as people tell of what happened in it; and dates in full."""

import re
from datetime import date, timedelta
from typing import TypeAlias

Span: TypeAlias = tuple[date, date]
"""From its start to before its end."""

_AFTER_A_DAY = timedelta(days=7)
_AFTER_MORE = timedelta(days=3)
"""People tell of a day in the week after it, and of more until its first days are by."""

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
_NUMBERS = _MONTHS | _SHORT

NAMES = "|".join(sorted(_NUMBERS, key=len, reverse=True))
"""Of months, long and short, in lower case, as alternatives of a pattern."""

DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
YEAR = r"(?P<year>(?:19|20)\d\d)"

_DAYS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{YEAR}-(?P<number>[01]?\d)-{DAY}(?!\d)",
        rf"\b{DAY}(?: of)? (?P<month>{NAMES})\.?,?(?: of)? {YEAR}\b",
        rf"\b(?P<month>{NAMES})\.? {DAY},? {YEAR}\b",
    )
)
_MONTH = re.compile(rf"\b(?P<month>{NAMES})\.?,?(?: of)? {YEAR}\b")
_ISO_MONTH = re.compile(rf"\b{YEAR}-(?P<number>[01]\d)\b(?!-\d)")


def day(text: str) -> date | None:
    """The first day that a text in lower case names in full: 8 May 2023, May 8th, 2023-05-08."""
    for pattern in _DAYS:
        match = pattern.search(text)
        if match is not None:
            try:
                return date(int(match["year"]), month_number(match), int(match["day"]))
            except ValueError:
                continue
    return None


def month(text: str) -> Span | None:
    """The first month that a text in lower case names with its year: May 2023, 2023-05."""
    match = _MONTH.search(text) or _ISO_MONTH.search(text)
    if match is None or not 1 <= month_number(match) <= 12:
        return None
    return of_month(int(match["year"]), month_number(match))


def month_number(match: re.Match[str]) -> int:
    """The month that a match's group `number` has, or else its one group that is a name."""
    number = match.groupdict().get("number")
    return int(number) if number else _NUMBERS[next(filter(_NUMBERS.get, match.groups()))]


def of_day(start: date) -> Span:
    return start, start + timedelta(days=1) + _AFTER_A_DAY


def of_days(start: date, count: int) -> Span:
    return start, start + timedelta(days=count) + _AFTER_MORE


def of_month(year: int, number: int) -> Span:
    start = date(year, number, 1)
    return start, (start + timedelta(days=31)).replace(day=1) + _AFTER_MORE


def of_year(year: int) -> Span:
    return date(year, 1, 1), date(year + 1, 1, 1) + _AFTER_MORE
