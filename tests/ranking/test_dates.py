"""Which dates a query names, and on which day a memory happened."""

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.dates import Span, dates_named, occurred_on

STORED = datetime(2024, 2, 3, 4, 5, tzinfo=UTC)
WEDNESDAY = date(2026, 11, 25)
KIB = 1_024

day = date.fromisoformat


def named(query: str, *years: int) -> tuple[Span, ...]:
    return dates_named(query, as_of=WEDNESDAY, years=years)


def spans(*days: str) -> tuple[Span, ...]:
    """A span for every two days."""
    return tuple(zip(map(day, days[::2]), map(day, days[1::2]), strict=True))


@pytest.mark.parametrize(
    "query",
    [
        "What did she buy on 8 May 2023?",
        "on 8 may, 2023",
        "ON 8 MAY 2023",
        "08 May 2023",
        "8  May\n2023",
        "the 8th of May 2023",
        "the 8th of May, 2023",
        "May 8th, 2023",
        "May 8 2023",
        "May 08, 2023",
        "2023-05-08",
        "2023-5-8",
        "at 2023-05-08T13:56:00Z",
        "(2023-05-08)",
        "1:56 pm on 8 May, 2023",
        "May 2023, that is 8 May 2023",
        "yesterday I asked about 8 May 2023",
    ],
)
def test_a_day_named_is_told_of_until_a_week_after(query: str) -> None:
    assert named(query, 2020) == spans("2023-05-08", "2023-05-16")


@pytest.mark.parametrize(
    ("query", "start"),
    [
        ("Sept. 2, 2022", "2022-09-02"),
        ("2 Sep. 2022", "2022-09-02"),
        ("2nd of sept 2022", "2022-09-02"),
        ("29 February 2024", "2024-02-29"),
        ("February 29th, 2000", "2000-02-29"),
        ("2024-02-29", "2024-02-29"),
        ("31 Dec 2099", "2099-12-31"),
        ("1 January 1900", "1900-01-01"),
        ("3rd Mar 2021", "2021-03-03"),
        ("21st jun 2021", "2021-06-21"),
    ],
)
def test_days_may_be_written_short_and_be_leap_days(query: str, start: str) -> None:
    assert named(query) == ((day(start), day(start) + timedelta(days=8)),)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("What happened in May 2023?", "2023-05-01", "2023-06-04"),
        ("may of 2023", "2023-05-01", "2023-06-04"),
        ("May, 2023", "2023-05-01", "2023-06-04"),
        ("Sept. 2022", "2022-09-01", "2022-10-04"),
        ("in sep 2022", "2022-09-01", "2022-10-04"),
        ("2023-05", "2023-05-01", "2023-06-04"),
        ("Feb 2024", "2024-02-01", "2024-03-04"),
        ("December 2023", "2023-12-01", "2024-01-04"),
        ("in 2023", "2023-01-01", "2024-01-04"),
        ("2023?", "2023-01-01", "2024-01-04"),
        ("1999", "1999-01-01", "2000-01-04"),
        ("in 2099", "2099-01-01", "2100-01-04"),
        ("In 2023 Ada moved", "2023-01-01", "2024-01-04"),
        ("the 2023 trip to Lyon", "2023-01-01", "2024-01-04"),
        ("Anna's 2023 trip", "2023-01-01", "2024-01-04"),
        ("What was it in 2023 that broke?", "2023-01-01", "2024-01-04"),
    ],
)
def test_months_and_years_are_told_of_until_three_days_after(
    query: str, start: str, end: str
) -> None:
    assert named(query, 2020) == spans(start, end)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("31 February 2023", "2023-02-01", "2023-03-04"),
        ("29 February 2023", "2023-02-01", "2023-03-04"),
        ("0 May 2023", "2023-05-01", "2023-06-04"),
        ("39 May 2023", "2023-05-01", "2023-06-04"),
        ("2023-13", "2023-01-01", "2024-01-04"),
        ("2023-00-10", "2023-01-01", "2024-01-04"),
        ("2023-02-31", "2023-01-01", "2024-01-04"),
    ],
)
def test_a_day_that_is_not_leaves_its_month_or_year(query: str, start: str, end: str) -> None:
    assert named(query) == spans(start, end)


def test_the_first_day_that_is_one_counts() -> None:
    assert named("not 31 February 2023 but 2023-03-02") == spans("2023-03-02", "2023-03-10")


@pytest.mark.parametrize(
    "query",
    [
        "What did she buy on 8 May?",
        "8 May",
        "the 8th of May",
        "May 8",
        "May 8th",
        "since May 8",
        "on the 8 May in Lyon",
        "What happened on May 8 in Lyon?",
    ],
)
def test_a_day_without_its_year_is_tried_in_the_years_that_have_memories(query: str) -> None:
    latest_first = spans("2024-05-08", "2024-05-16", "2021-05-08", "2021-05-16")
    assert named(query, 2021, 2024) == latest_first
    assert named(query) == ()


@pytest.mark.parametrize(
    ("query", "month"),
    [
        ("in March", 3),
        ("What did she plant in March?", 3),
        ("in may", 5),
        ("since June", 6),
        ("during August", 8),
        ("in early May", 5),
        ("in mid-March", 3),
        ("at the end of April", 4),
        ("in sept.", 9),
        ("the September trip", 9),
        ("December?", 12),
    ],
)
def test_a_month_without_its_year_is_tried_in_the_years_that_have_memories(
    query: str, month: int
) -> None:
    found = named(query, 2021, 2024)
    assert [start for start, _ in found] == [date(2024, month, 1), date(2021, month, 1)]
    assert {(end - start).days for start, end in found} <= {31, 33, 34}
    assert named(query) == ()


def test_a_year_that_has_no_such_day_is_left_out() -> None:
    assert named("on 29 February", 2023, 2024) == spans("2024-02-29", "2024-03-08")
    assert named("on 31 June", 2023, 2024) == ()


def test_a_year_named_elsewhere_is_the_one_that_counts() -> None:
    assert named("In 2023, what was on 8 May?", 2021) == spans("2023-05-08", "2023-05-16")
    assert named("on 8 May last year", 2021) == spans("2025-05-08", "2025-05-16")
    assert named("March last year", 2021) == spans("2025-03-01", "2025-04-04")
    assert named("in may of this year", 2021) == spans("2026-05-01", "2026-06-04")


def test_at_most_fifty_years_are_tried_the_latest_ones() -> None:
    found = named("in March", *range(-100, 20_000))
    assert len(found) == 50
    assert found[0][0] == date(9998, 3, 1)


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [
        ("What did I eat today?", "2026-11-25", "2026-12-03"),
        ("this morning", "2026-11-25", "2026-12-03"),
        ("yesterday", "2026-11-24", "2026-12-02"),
        ("Yesterday's call", "2026-11-24", "2026-12-02"),
        ("last night", "2026-11-24", "2026-12-02"),
        ("the day before yesterday", "2026-11-23", "2026-12-01"),
        ("3 days ago", "2026-11-22", "2026-11-30"),
        ("a day ago", "2026-11-24", "2026-12-02"),
        ("a couple of days ago", "2026-11-23", "2026-12-01"),
        ("twelve days ago", "2026-11-13", "2026-11-21"),
        ("last Monday", "2026-11-23", "2026-12-01"),
        ("last Wednesday", "2026-11-18", "2026-11-26"),
        ("this past Thursday", "2026-11-19", "2026-11-27"),
        ("on Wednesday", "2026-11-25", "2026-12-03"),
        ("on Thursday", "2026-11-19", "2026-11-27"),
        ("this Friday", "2026-11-27", "2026-12-05"),
        ("this week", "2026-11-23", "2026-12-03"),
        ("last week", "2026-11-16", "2026-11-26"),
        ("a week ago", "2026-11-16", "2026-11-26"),
        ("two weeks ago", "2026-11-09", "2026-11-19"),
        ("last weekend", "2026-11-21", "2026-11-26"),
        ("this month", "2026-11-01", "2026-12-04"),
        ("last month", "2026-10-01", "2026-11-04"),
        ("11 months ago", "2025-12-01", "2026-01-04"),
        ("this year", "2026-01-01", "2027-01-04"),
        ("last year", "2025-01-01", "2026-01-04"),
        ("two years ago", "2024-01-01", "2025-01-04"),
        ("last March", "2026-03-01", "2026-04-04"),
        ("last December", "2025-12-01", "2026-01-04"),
        ("last November", "2025-11-01", "2025-12-04"),
        ("this May", "2026-05-01", "2026-06-04"),
        ("in the last 3 days", "2026-11-22", "2026-11-26"),
        ("over the past two weeks", "2026-11-11", "2026-11-26"),
        ("the past 12 months", "2025-11-25", "2026-11-26"),
        ("in the last two years", "2024-11-25", "2026-11-26"),
    ],
)
def test_relative_dates_are_counted_from_the_day_that_is_given(
    query: str, start: str, end: str
) -> None:
    assert named(query, 2020) == spans(start, end)


@pytest.mark.parametrize(
    ("as_of", "query", "start"),
    [
        ("2026-01-01", "yesterday", "2025-12-31"),
        ("2026-01-15", "last month", "2025-12-01"),
        ("2024-03-31", "last month", "2024-02-01"),
        ("2024-03-31", "in the last 1 months", "2024-02-28"),
        ("2024-02-29", "in the last 1 years", "2023-02-28"),
        ("2026-01-04", "last week", "2025-12-22"),
        ("2026-11-23", "last Monday", "2026-11-16"),
        ("2026-11-29", "last weekend", "2026-11-21"),
        ("0001-01-01", "999 years ago", "0001-01-01"),
        ("9999-12-31", "this year", "9000-01-01"),
    ],
)
def test_relative_dates_cross_the_ends_of_months_and_years(
    as_of: str, query: str, start: str
) -> None:
    assert dates_named(query, as_of=day(as_of), years=[])[0][0] == day(start)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "When did she move?",
        "May I ask?",
        "may 8 people come?",
        "those who may leave",
        "8 may be enough",
        "this may be wrong",
        "late may leave",
        "march to the sea",
        "march 8 miles",
        "8 march on",
        "June's garden",
        "April said so",
        "a second ago",
        "in the second week",
        "sun and sat",
        "on Mondays",
        "next September",
        "next week",
        "days ago",
        "12023",
        "20231",
        "1850",
        "2100",
        "the 2020s",
        "v2023x",
        "room 202",
        "2023 ways",
        "in 2023 ways",
        "2023 km",
        "$2023",
        "2023%",
        "2023.5",
        "1,2023",
        "2023_05_08",
        "May 8:30",
        "June 8%",
        "ayer",
        "gestern",
        "\u2460\u2461",
        "2" * 8_000,
    ],
)
def test_what_is_no_date_names_none(query: str) -> None:
    assert named(query, 2020, 2023) == ()


def test_a_word_that_begins_as_a_month_names_none() -> None:
    for query in ("the mayor 2023", "the march 2023rd", "dismay 2023", "maybe 8 2023"):
        assert named(query, 2020) in ((), spans("2023-01-01", "2024-01-04"))


def test_digits_of_other_scripts_are_digits() -> None:
    assert named("\u0668 May \u0662\u0660\u0662\u0663") == ()
    assert named("\u0668 May 20\u0662\u0663") == spans("2023-05-08", "2023-05-16")


@given(st.text(), st.dates(), st.lists(st.integers(-10, 10_010), max_size=3))
def test_no_query_is_too_odd(query: str, as_of: date, years: list[int]) -> None:
    assert all(start < end for start, end in dates_named(query, as_of=as_of, years=years))


months = st.sampled_from(["feb", "May", "sept.", "DECEMBER", "13", "00", "02", "2"])
relative = st.sampled_from(
    ["last", "this", "ago", "days", "weeks", "months", "years", "monday", "on"]
)
digits = st.sampled_from(["2023", "1999", "2099", "31", "0", "29", "8th", "999", "-", ","])
pieces = st.lists(st.one_of(months, digits, relative), max_size=6)


@given(pieces, st.sampled_from(["", " ", "-", ", ", " of "]), st.dates())
def test_no_heap_of_dates_is_too_odd(words: list[str], between: str, as_of: date) -> None:
    text = between.join(words)
    for start, end in dates_named(text, as_of=as_of, years=[2020, 2023]):
        assert start < end
    occurred_on({"date": text}, STORED)


@pytest.mark.timeout(60)  # a few tenths of a second; what takes n² steps takes minutes
@pytest.mark.parametrize(
    "unit",
    [
        "8 ",
        "may ",
        "8 may ",
        "2023",
        "2023 ways ",
        "last ",
        "on ",
        "a couple of ",
        " ",
        "the ",
        "8th",
    ],
)
def test_a_long_query_takes_a_time_that_grows_with_it(unit: str) -> None:
    named((unit * 256 * KIB)[: 256 * KIB] + "x", 2020)


@pytest.mark.parametrize(
    ("value", "when"),
    [
        ("2023-05-08", "2023-05-08"),
        ("2023-05-08T13:56:00Z", "2023-05-08"),
        ("2023-05-08T13:56:00", "2023-05-08"),
        ("2023-05-08 13:56", "2023-05-08"),
        ("2023-05-08T01:30:00+09:00", "2023-05-08"),
        ("2023-05-08T01:56:00+02:00", "2023-05-08"),
        ("2023-05-08T23:30:00-05:30", "2023-05-08"),
        ("0001-01-01T00:00:00+14:00", "0001-01-01"),
        ("9999-12-31T23:59:59-14:00", "9999-12-31"),
        (" 2023-05-08\n", "2023-05-08"),
        ("20230508", "2023-05-08"),
        ("2023-05-08 noon", "2023-05-08"),
        ("8 May 2023", "2023-05-08"),
        ("8 May\n2023", "2023-05-08"),
        ("1:56 pm on 8 May, 2023", "2023-05-08"),
        ("May 8th, 2023", "2023-05-08"),
        ("29 February 2024", "2024-02-29"),
        ("0001-01-01", "0001-01-01"),
        (1_683_504_000, "2023-05-08"),
        (1_683_504_000.5, "2023-05-08"),
        (1_683_504_000_000, "2023-05-08"),
        (631_152_000, "1990-01-01"),
        (631_152_000_000, "1990-01-01"),
        (4_102_444_799, "2099-12-31"),
        (4_102_444_799_999, "2099-12-31"),
    ],
)
def test_metadata_tells_on_which_day_a_memory_happened(value: object, when: str) -> None:
    assert occurred_on({"date": value}, STORED) == day(when)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        "soon",
        "yesterday",
        "12:30",
        "May",
        "8 May",
        "31 February 2023",
        "2023-02-31",
        "1683504000",
        "202405131200",
        "2023-05-08" + " " * 100,
        "8 May 2023" * 1_000,
        0,
        5,
        -86_400,
        20_240_513,
        202_405_131_200,
        20_240_513_120_000,
        1_683_504_000_000_000,
        631_151_999,
        4_102_444_800,
        float("nan"),
        float("inf"),
        float("-inf"),
        1e300,
        -1e300,
        -1e11,
        10**400,
        -(10**400),
        [],
        ["2023-05-08"],
        {"date": "2023-05-08"},
    ],
)
def test_what_is_no_time_leaves_that_of_storing(value: object) -> None:
    assert occurred_on({"date": value}, STORED) == STORED.date()


def test_without_any_time_it_is_the_day_in_utc_of_storing() -> None:
    assert occurred_on({}, datetime.fromisoformat("2024-02-03T23:30:00-05:00")) == day("2024-02-04")


def test_the_first_field_that_has_a_time_counts() -> None:
    assert occurred_on({}, STORED) == STORED.date()
    fields = ["date", "datetime", "timestamp", "created_at", "time"]
    metadata: dict[str, Any] = {"when": "2001-01-01"}
    for n, field in reversed(list(enumerate(fields, start=1))):
        metadata = {**metadata, field: f"2020-01-0{n}"}
        assert occurred_on(metadata, STORED) == day(f"2020-01-0{n}")
    assert occurred_on({**metadata, "date": "?"}, STORED) == day("2020-01-02")


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
value = st.recursive(scalar, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
field = st.sampled_from(["date", "datetime", "timestamp", "created_at", "time", "x"])
odd = st.datetimes(timezones=st.none() | st.timezones()).map(str) | st.dates().map(str)


@given(st.dictionaries(field, value | odd))
def test_no_metadata_is_too_odd(metadata: dict[str, Any]) -> None:
    assert type(occurred_on(metadata, STORED)) is date


@given(st.from_regex(r"[0-9T:+\-Z .,W]{1,40}", fullmatch=True))
def test_no_time_like_text_is_too_odd(text: str) -> None:
    assert type(occurred_on(json.loads(json.dumps({"time": text})), STORED)) is date


@given(st.datetimes(timezones=st.timezones()))
def test_the_day_is_that_of_the_given_offset(moment: datetime) -> None:
    assert occurred_on({"time": moment.isoformat()}, STORED) == moment.date()
