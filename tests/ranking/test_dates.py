"""Which dates a query names, and when a memory says that it happened."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.dates import dates_named, occurred_at

STORED = datetime(2024, 2, 3, 4, 5, tzinfo=UTC)


def day(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "query",
    [
        "What did she buy on 8 May 2023?",
        "on 8 may, 2023",
        "ON 8 MAY 2023",
        "08 May 2023",
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
    ],
)
def test_a_day_named_is_told_of_until_a_week_after(query: str) -> None:
    assert dates_named(query) == (day("2023-05-08"), day("2023-05-16"))


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
    assert dates_named(query) == (day(start), day(start) + timedelta(days=8))


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
    ],
)
def test_months_and_years_are_told_of_until_three_days_after(
    query: str, start: str, end: str
) -> None:
    assert dates_named(query) == (day(start), day(end))


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
    assert dates_named(query) == (day(start), day(end))


def test_the_first_day_that_is_one_counts() -> None:
    assert dates_named("not 31 February 2023 but 2023-03-02") == (
        day("2023-03-02"),
        day("2023-03-10"),
    )


@pytest.mark.parametrize(
    "query",
    [
        "",
        "When did she move?",
        "May I ask?",
        "in May",
        "8 May",
        "yesterday",
        "12023",
        "20231",
        "1850",
        "2100",
        "the 2020s",
        "v2023x",
        "room 202",
        "2023_05_08",
        "\u2460\u2461",
        "2" * 8_000,
    ],
)
def test_what_is_no_date_names_none(query: str) -> None:
    assert dates_named(query) is None


def test_a_word_that_begins_as_a_month_names_none() -> None:
    for query in ("the mayor 2023", "the march 2023rd", "dismay 2023", "maybe 8 2023"):
        found = dates_named(query)
        assert found is None or found[0] == day("2023-01-01")


def test_digits_of_other_scripts_are_digits() -> None:
    assert dates_named("\u0668 May \u0662\u0660\u0662\u0663") is None
    assert dates_named("\u0668 May 20\u0662\u0663") == (day("2023-05-08"), day("2023-05-16"))


@given(st.text())
def test_no_query_is_too_odd(query: str) -> None:
    found = dates_named(query)
    assert found is None or found[0] < found[1]


months = st.sampled_from(["feb", "May", "sept.", "DECEMBER", "13", "00", "02", "2"])
pieces = st.lists(
    st.one_of(months, st.sampled_from(["2023", "1999", "2099", "31", "0", "29", "8th", "-", ","])),
    max_size=6,
)


@given(pieces, st.sampled_from(["", " ", "-", ", ", " of "]))
def test_no_heap_of_dates_is_too_odd(words: list[str], between: str) -> None:
    found = dates_named(between.join(words))
    assert found is None or timedelta(days=8) <= found[1] - found[0] <= timedelta(days=369)
    occurred_at({"date": between.join(words)}, STORED)


@pytest.mark.parametrize(
    ("value", "when"),
    [
        ("2023-05-08", "2023-05-08T00:00:00"),
        ("2023-05-08T13:56:00Z", "2023-05-08T13:56:00"),
        ("2023-05-08T13:56:00", "2023-05-08T13:56:00"),
        ("2023-05-08 13:56", "2023-05-08T13:56:00"),
        ("2023-05-08T01:56:00+02:00", "2023-05-07T23:56:00"),
        ("2023-05-08T23:30:00-05:30", "2023-05-09T05:00:00"),
        (" 2023-05-08\n", "2023-05-08T00:00:00"),
        ("20230508", "2023-05-08T00:00:00"),
        ("8 May 2023", "2023-05-08T00:00:00"),
        ("1:56 pm on 8 May, 2023", "2023-05-08T00:00:00"),
        ("May 8th, 2023", "2023-05-08T00:00:00"),
        ("29 February 2024", "2024-02-29T00:00:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
        (1_683_504_000, "2023-05-08T00:00:00"),
        (1_683_504_000.5, "2023-05-08T00:00:00.500000"),
        (1_683_504_000_000, "2023-05-08T00:00:00"),
    ],
)
def test_metadata_tells_when_a_memory_happened(value: object, when: str) -> None:
    assert occurred_at({"date": value}, STORED) == day(when)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        False,
        "",
        "soon",
        "12:30",
        "May",
        "31 February 2023",
        "2023-02-31",
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2023-05-08" + " " * 100,
        "8 May 2023" * 1_000,
        0,
        5,
        -86_400,
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
    assert occurred_at({"date": value}, STORED) == STORED


def test_the_first_field_that_has_a_time_counts() -> None:
    assert occurred_at({}, STORED) == STORED
    fields = ["date", "datetime", "timestamp", "created_at", "time"]
    metadata: dict[str, Any] = {"when": "2001-01-01"}
    for n, field in reversed(list(enumerate(fields, start=1))):
        metadata = {**metadata, field: f"2020-01-0{n}"}
        assert occurred_at(metadata, STORED) == day(f"2020-01-0{n}")
    assert occurred_at({**metadata, "date": "?"}, STORED) == day("2020-01-02")


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
value = st.recursive(scalar, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
field = st.sampled_from(["date", "datetime", "timestamp", "created_at", "time", "x"])
odd = st.datetimes(timezones=st.none() | st.timezones()).map(str) | st.dates().map(str)


@given(st.dictionaries(field, value | odd))
def test_no_metadata_is_too_odd(metadata: dict[str, Any]) -> None:
    found = occurred_at(metadata, STORED)
    assert found.utcoffset() == timedelta(0)


@given(st.from_regex(r"[0-9T:+\-Z .,W]{1,40}", fullmatch=True))
def test_no_time_like_text_is_too_odd(text: str) -> None:
    assert occurred_at(json.loads(json.dumps({"time": text})), STORED).tzinfo is UTC
