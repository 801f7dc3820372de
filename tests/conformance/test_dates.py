"""Dates that a query names, where a driver explains what counted."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory
from app.errors import CapabilityMissing
from app.ranking import DATE

SPOKEN = datetime.fromisoformat("2026-05-08T01:30:00+09:00")
"""A Friday there; in UTC it is still Thursday, 7 May."""


def explains(driver: RecordDriver) -> bool:
    return "explain_recall" in driver.capabilities()


async def remembered(driver: RecordDriver, dates: Mapping[str, Any]) -> None:
    """Store memories of one text, with names and dates in their metadata."""
    await driver.store_many(
        [
            NewMemory(user_id="ada", content="A note.", metadata={"name": name, "date": date})
            for name, date in dates.items()
        ]
    )


async def named(driver: RecordDriver, query: str, as_of: datetime | None = None) -> set[str]:
    """The names of the memories whose date the query names: they come first."""
    found = await driver.recall("ada", query=query, as_of=as_of, explain=True, top_k=100)
    points = [why.date for why in (memory.explanation for memory in found) if why is not None]
    count = points.count(DATE)
    assert points == [DATE] * count + [0.0] * (len(found) - count)
    return {memory.metadata["name"] for memory in found[:count]}


async def test_the_day_of_a_date_is_that_of_its_own_offset(driver: RecordDriver) -> None:
    if not explains(driver):
        return
    await remembered(
        driver,
        {
            "east": "2023-05-08T01:30:00+09:00",
            "west": "2023-05-07T22:30:00-05:00",
            "utc": "2023-05-08T23:59:59Z",
        },
    )
    assert await named(driver, "What happened on 7 May 2023?") == {"east", "west", "utc"}
    assert await named(driver, "What happened on 8 May 2023?") == {"east", "utc"}
    assert await named(driver, "What happened on 2023-05-09?") == set()


async def test_a_number_is_a_date_only_where_it_counts_seconds_or_milliseconds(
    driver: RecordDriver,
) -> None:
    if not explains(driver):
        return
    await remembered(
        driver,
        {"digits": 202405131200, "seconds": 1715601600, "milliseconds": 1715601600000},
    )
    assert await named(driver, "What happened on 31 May 1976?") == set()
    assert await named(driver, "What happened on 13 May 2024?") == {"seconds", "milliseconds"}


DATES = {
    "last spring": "2025-03-20",
    "this winter": "2026-01-15",
    "in spring": "2026-03-20",
    "a Monday": "2026-04-20",
    "a Sunday": "2026-04-26",
    "another Monday": "2026-04-27",
    "Tuesday": "2026-05-05",
    "Wednesday": "2026-05-06",
    "Thursday": "2026-05-07",
}
RELATIVE = [
    ("What happened yesterday?", {"Thursday"}),
    ("What happened the day before yesterday?", {"Wednesday", "Thursday"}),
    ("What happened three days ago?", {"Tuesday", "Wednesday", "Thursday"}),
    ("What happened last Tuesday?", {"Tuesday", "Wednesday", "Thursday"}),
    ("What happened last week?", {"another Monday", "Tuesday", "Wednesday"}),
    ("What happened two weeks ago?", {"a Monday", "a Sunday", "another Monday"}),
    ("What happened last March?", {"in spring"}),
    ("What happened in March?", {"last spring", "in spring"}),
    ("What happened last year?", {"last spring"}),
    ("What happened next?", set()),
]
"""A query of `SPOKEN`, and the memories whose date it names: people tell of it for some days."""


async def test_relative_dates_count_from_the_moment_that_the_query_speaks_from(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    if not explains(driver):
        return
    await remembered(driver, DATES)
    for query, expected in RELATIVE:
        with subtests.test(query=query):
            assert await named(driver, query, SPOKEN) == expected
    with subtests.test("of a year later"):
        later = SPOKEN.replace(year=2027)
        assert await named(driver, "What happened last year?", later) == set(DATES) - {
            "last spring"
        }


async def test_who_does_not_explain_says_so_and_takes_the_moment_all_the_same(
    driver: RecordDriver,
) -> None:
    if explains(driver):
        return
    await remembered(driver, DATES)
    query = "What happened yesterday?"
    with pytest.raises(CapabilityMissing):
        await driver.recall("ada", query=query, explain=True)
    found = await driver.recall("ada", query=query, as_of=SPOKEN, top_k=100)
    assert {memory.metadata["name"] for memory in found} == set(DATES)
