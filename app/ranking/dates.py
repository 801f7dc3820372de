"""Dates: those that a query names, and the day on which a memory happened.

In English and as ISO 8601. Other languages' dates count as words.
"""

import re
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime
from typing import Any

from app.ranking import relative_dates, spans
from app.ranking.spans import DAY, NAMES, YEAR, Span, month_number

__all__ = ["Span", "dates_named", "occurred_on"]

_LONGEST = 100
"""A longer text in the metadata is no date."""

_FIRST_SECOND = datetime(1990, 1, 1, tzinfo=UTC).timestamp()
_END = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
"""A number is a time if it is one of these years, in seconds or in milliseconds since 1970."""

_WHEN = ("date", "datetime", "timestamp", "created_at", "time")
"""Fields of the metadata that may say when a memory happened, the first that does counts."""

_FIRST_TODAY, _LAST_TODAY = date(1000, 1, 1), date(9000, 1, 1)
"""999 years before and after are years of the calendar."""

_MOST_YEARS = 50
"""A date without a year is tried in the latest of the years that have memories."""

_VERBS = "may|march"
"""Months that are words too: they need a day with an ordinal, a preposition, or the end."""
_OTHERS = "|".join(name for name in NAMES.split("|") if name not in _VERBS.split("|"))
_ALONE = "january|february|july|september|october|november|december"
"""Months that are nobody's name either."""
_AT_END = r"(?= ?(?:[?!.,;:)]|$))"
_NO_MORE = r"(?![\w:%]|[.,/-]\d)"
_ON = r"\b(?:on|since|before|after|until|till|from|between|by|around)(?: the)?"
_ORDINAL = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)"

_DAYS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"\b{DAY}(?: of)? (?P<month>{_OTHERS})\b",
        rf"\b(?P<month>{_OTHERS})\.? {DAY}{_NO_MORE}",
        rf"\b{DAY} of (?P<month>{_VERBS})\b",
        rf"{_ON} {DAY} (?P<month>{_VERBS})\b",
        rf"\b{DAY} (?P<month>{_VERBS}){_AT_END}",
        rf"{_ON} (?P<month>{_VERBS}) {DAY}{_NO_MORE}",
        rf"\b(?P<month>{_VERBS}) {_ORDINAL}{_NO_MORE}",
        rf"\b(?P<month>{_VERBS}) {DAY}{_NO_MORE}{_AT_END}",
    )
)
_IN = r"in|during|since|until|till|mid"
_OF = r"(?:beginning|start|middle|end|half|rest|month|week|weekend|days?) of"
_MONTH = re.compile(
    rf"\b(?:{_IN}|around|early|late|{_OF})[ -](?P<month>{_OTHERS})\b{_NO_MORE}(?! \d)"
    rf"|\b(?:{_IN}|in (?:early|late|mid)|{_OF})[ -](?P<verb>{_VERBS})\b{_NO_MORE}(?! \d)"
    rf"|\b(?P<of>{NAMES})(?: of)? (?:last|this) year\b"
)
_MONTH_ALONE = re.compile(rf"(?<!next )\b(?P<month>{_ALONE})\b{_NO_MORE}(?! \d)")
_YEAR = re.compile(rf"(?<![\w.,$€£#/]){YEAR}(?![\w%€$£]|[.,:/]\d)(?: (?P<next>\w+))?")
_BEFORE_A_YEAR = re.compile(
    r"\b(?:in|of|during|since|year|until|till|before|after|from|to|by|around|early|late|mid|and|or"
    rf"|than|summer|winter|spring|autumn|fall|the|my|our|your|his|her|their|{NAMES})[ -]$"
    r"|'s $"
)
_AFTER_A_YEAR = frozenset(
    {"in", "at", "on", "and", "or", "to", "when", "with", "for", "by", "until", "that", "did", "do"}
    | {"is", "was", "has", "does", "as", "his", "this", "us", "its"}
)


def dates_named(query: str, *, as_of: date, years: Collection[int]) -> tuple[Span, ...]:
    """The times of memories that tell of the date in `query`; none if it names no date.

    What is named most precisely counts: a day (8 May 2023, May 8th, 2023-05-08, yesterday, last
    Monday, three days ago), a month (May 2023, 2023-05, in May, last March), a week, weekend or
    year (2023, last week, two years ago). Relative ones are counted from `as_of`. A day or month
    whose year is not said is tried in each of `years`, those in which the user has memories.
    """
    text = " ".join(query.casefold().split())
    if (day := spans.day(text)) is not None:
        return (spans.of_day(day),)
    as_of = min(max(as_of, _FIRST_TODAY), _LAST_TODAY)
    if (near := relative_dates.near_day(text, as_of)) is not None:
        return (near,)
    named = _year(text)
    year = relative_dates.year(text, as_of) if named is None else named
    tried = sorted((one for one in years if 1 <= one <= 9998), reverse=True)[:_MOST_YEARS]
    if found := _day_of(text, tried if year is None else [year]):
        return found
    one = (
        spans.month(text)
        or relative_dates.weekday(text, as_of)
        or relative_dates.last_month(text, as_of)
    )
    if one is not None:
        return (one,)
    if found := _month_of(text, tried if year is None else [year]):
        return found
    if (one := relative_dates.period(text, as_of)) is not None and named is None:
        return (one,)
    return () if named is None else (spans.of_year(named),)


def occurred_on(
    metadata: Mapping[str, Any], created_at: datetime, occurred_at: datetime | None = None
) -> date:
    """The day on which a memory happened: of `occurred_at`, in its own offset, where that is said.

    It is said where it is not `created_at`. Otherwise the metadata may say it: in a text with a
    date, of which the offset's own day counts, or in seconds or milliseconds since 1970 (1990 to
    2099). Else it is the day of `created_at`, in UTC.
    """
    if occurred_at is not None and occurred_at != created_at:
        return occurred_at.date()
    for name in _WHEN:
        found = _parsed(metadata.get(name))
        if found is not None:
            return found
    return created_at.astimezone(UTC).date()


def _parsed(value: object) -> date | None:
    if isinstance(value, (int, float)):
        for seconds in (value, value / 1000 if abs(value) < 1e15 else 0):
            if _FIRST_SECOND <= seconds < _END:
                return datetime.fromtimestamp(seconds, UTC).date()
        return None
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    try:
        return datetime.fromisoformat(value.strip()).date()
    except ValueError:
        return spans.day(" ".join(value.casefold().split()))


def _day_of(text: str, years: Collection[int]) -> tuple[Span, ...]:
    """The first day of a month that the text names, in each of the years that have it."""
    matches = (pattern.search(text) for pattern in _DAYS)
    match = next(filter(None, matches), None)
    if match is None:
        return ()
    found = []
    for year in years:
        try:
            found.append(spans.of_day(date(year, month_number(match), int(match["day"]))))
        except ValueError:  # 29 February, or 31 June
            continue
    return tuple(found)


def _month_of(text: str, years: Collection[int]) -> tuple[Span, ...]:
    match = _MONTH.search(text) or _MONTH_ALONE.search(text)
    if match is None:
        return ()
    return tuple(spans.of_month(year, month_number(match)) for year in years)


def _year(text: str) -> int | None:
    """The first year that the text names and that counts nothing: in 2023, not 2023 ways."""
    for match in _YEAR.finditer(text):
        following = match["next"]
        known = following is None or following in _AFTER_A_YEAR
        named = _BEFORE_A_YEAR.search(text[max(0, match.start() - 12) : match.start()])
        if known or (named is not None and not following.endswith("s")):
            return int(match["year"])
    return None
