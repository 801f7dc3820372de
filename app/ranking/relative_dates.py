"""Dates that English tells from today on: yesterday, two weeks ago, last March."""

import re
from datetime import date, timedelta

from app.ranking import spans
from app.ranking.spans import NAMES, Span, month_number

_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_COUNTS = {word: n for n, word in enumerate((*_WORDS, "eleven", "twelve"), start=1)} | {
    **dict.fromkeys(("a", "an"), 1),
    **dict.fromkeys(("couple", "couple of", "a couple", "a couple of"), 2),
}
_COUNT = rf"(?P<count>\d{{1,3}}|{'|'.join(sorted(_COUNTS, key=len, reverse=True))})"
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

_TODAY = re.compile(r"\b(?:today|tonight|this (?:morning|noon|afternoon|evening))\b")
_BEFORE_YESTERDAY = re.compile(r"\bday before yesterday\b")
_YESTERDAY = re.compile(r"\b(?:yesterday|last (?:night|evening))\b")
_DAYS_AGO = re.compile(rf"\b{_COUNT} days? ago\b")
_WEEKDAY = re.compile(
    rf"\b(?P<which>on|last|past|this)(?: past)? (?P<weekday>{'|'.join(_WEEKDAYS)})\b"
)
_LAST_MONTH = re.compile(rf"\b(?P<which>last|this) (?P<month>{NAMES})\b(?! \d)")
_THIS_MAY_BE = re.compile(r"\bthis (?:may|march) \w")
_AGO = re.compile(rf"\b{_COUNT} (?P<unit>week|month|year)s? ago\b")
_RECENT = re.compile(rf"\b(?:last|past) {_COUNT} (?P<unit>day|week|month|year)s\b")
_PERIOD = re.compile(
    r"\b(?P<which>last|past|previous|this|current) (?P<unit>week|weekend|month|year)\b"
)
_YEAR = re.compile(r"\b(?P<which>last|past|previous|this|current) year\b")

_LAST = frozenset({"last", "past", "previous"})


def near_day(text: str, as_of: date) -> Span | None:
    """Today, yesterday, the day before, or some days ago."""
    if _BEFORE_YESTERDAY.search(text):
        back = 2
    elif _YESTERDAY.search(text):
        back = 1
    elif (match := _DAYS_AGO.search(text)) is not None:
        back = _count(match)
    elif _TODAY.search(text):
        back = 0
    else:
        return None
    return spans.of_day(as_of - timedelta(days=back))


def weekday(text: str, as_of: date) -> Span | None:
    """The last Monday before today; on Monday is today too, and this Monday is of this week."""
    match = _WEEKDAY.search(text)
    if match is None:
        return None
    in_this_week = _monday(as_of) + timedelta(days=_WEEKDAYS.index(match["weekday"]))
    if match["which"] == "this" and "past" not in match[0]:
        return spans.of_day(in_this_week)
    latest = as_of if match["which"] == "on" else as_of - timedelta(days=1)
    over = in_this_week > latest
    return spans.of_day(in_this_week - timedelta(days=7) if over else in_this_week)


def last_month(text: str, as_of: date) -> Span | None:
    """Last March is the latest that is over, this March the one of this year."""
    match = _LAST_MONTH.search(text)
    if match is None or _THIS_MAY_BE.match(text, match.start()):
        return None
    number = month_number(match)
    over = match["which"] == "this" or number < as_of.month
    return spans.of_month(as_of.year if over else as_of.year - 1, number)


def period(text: str, as_of: date) -> Span | None:
    """A week, weekend, month or year, counted from today's; or all of the last few."""
    if (match := _AGO.search(text)) is not None:
        return _of(match["unit"], _count(match), as_of)
    if (match := _RECENT.search(text)) is not None:
        start = _back(as_of, match["unit"], _count(match))
        return start, as_of + timedelta(days=1)
    if (match := _PERIOD.search(text)) is not None:
        return _of(match["unit"], int(match["which"] in _LAST), as_of)
    return None


def year(text: str, as_of: date) -> int | None:
    """The year that the text calls last or this year."""
    match = _YEAR.search(text)
    return None if match is None else as_of.year - (match["which"] in _LAST)


def _of(unit: str, back: int, as_of: date) -> Span:
    """The calendar's week, weekend, month or year that was so many before today's."""
    if unit == "year":
        return spans.of_year(as_of.year - back)
    if unit == "month":
        start = _back(as_of, "month", back)
        return spans.of_month(start.year, start.month)
    monday = _monday(as_of) - timedelta(weeks=back)
    if unit == "weekend":
        return spans.of_days(monday + timedelta(days=5), 2)
    return spans.of_days(monday, 7)


def _back(day: date, unit: str, count: int) -> date:
    if unit == "day":
        return day - timedelta(days=count)
    if unit == "week":
        return day - timedelta(weeks=count)
    months = day.year * 12 + day.month - 1 - count * (12 if unit == "year" else 1)
    # A month later may be shorter.
    return date(months // 12, months % 12 + 1, min(day.day, 28))


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _count(match: re.Match[str]) -> int:
    count = match["count"]
    return _COUNTS[count] if count in _COUNTS else int(count)
