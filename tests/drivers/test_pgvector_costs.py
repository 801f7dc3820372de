"""No text costs PostgreSQL much more than prose of its length does."""

from time import perf_counter

import asyncpg
import pytest

from app.ranking.runs import parsable
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver

PROSE = "Ada waters the basil on Sundays, before the train to Lyon leaves at nine o'clock. "
PATTERNS = [
    "e@1",
    "a_",
    "e_",
    "1_",
    "/~",
    "./",
    "a.b/",
    "e@1e@1 ",
    "e@1e@1" + "a_" * 14 + " ",
    "<!-- ",
]
SPLIT = "select length(to_tsvector('english', $1))"


def repeated(pattern: str, size: int) -> str:
    return (pattern * size)[:size]


@pytest.mark.parametrize("pattern", PATTERNS)
async def test_words_are_split_in_a_time_that_grows_with_the_length(
    new_database: NewDatabase, pattern: str
) -> None:
    """In 8,192 characters "e@1" took 2,000 times as long as prose, and "a_" 500 times."""
    connection = await asyncpg.connect(await new_database())

    async def least(text: str) -> float:
        found = []
        for _ in range(5):
            started = perf_counter()
            await connection.fetchval(SPLIT, parsable(text))
            found.append(perf_counter() - started)
        return min(found)

    try:
        await least(PROSE)
        assert await least(repeated(pattern, 8_192)) < 8 * await least(repeated(PROSE, 8_192))
    finally:
        await connection.close()


@pytest.mark.parametrize("pattern", ["e@1", "b_", "/~", "kettle <!-- "])
async def test_a_long_text_of_marks_is_stored_and_found_in_time(
    open_driver: OpenDriver, new_database: NewDatabase, pattern: str
) -> None:
    driver = await open_driver(await new_database(), timeout=3.0)  # these took eight seconds
    stored = await driver.store("ada", repeated(pattern, 32_768))
    query = repeated(pattern, 8_192)
    for use_vector in (True, False):
        found = await driver.recall("ada", query=query, use_vector=use_vector)
        assert [memory.content for memory in found] == [stored.content] or pattern == "/~"
