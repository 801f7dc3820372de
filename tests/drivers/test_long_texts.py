"""Long texts are searched by words without holding up everybody else."""

import asyncio

import pytest

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.records import NewMemory
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder, Windows
from app.settings import Limits
from tests.conftest import NewDatabase
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem, OpenDriver
from tests.drivers.resident import Chance
from tests.wrappers.flaky import OneVector


async def check(driver: BaseMemoryDriver, query: str) -> None:
    searching = asyncio.create_task(driver.recall("ada", query=query, use_vector=False))
    turns = 0
    while not searching.done():
        await asyncio.sleep(0.005)
        turns += 1
    assert len(await searching) == 10
    assert turns > 2


@pytest.fixture
def batch() -> list[NewMemory]:
    content = " ".join(f"w{n:x}" for n in range(6_000))[:32_000]
    return [NewMemory(user_id="ada", content=f"{n} {content}") for n in range(200)]


QUERY = " ".join(f"w{n:x}" for n in range(60))


async def test_others_are_served_while_inmemory_searches(batch: list[NewMemory]) -> None:
    driver = InMemoryDriver(OneVector(), Limits())
    await driver.store_many(batch)
    await check(driver, QUERY)


async def test_others_are_served_while_what_automem_gave_is_searched(
    open_automem: OpenAutomem, fake: FakeAutomem, batch: list[NewMemory]
) -> None:
    fake.embedder = OneVector()
    driver = await open_automem()
    await driver.store_many(batch)
    await check(driver, QUERY)


class Cut(Chance):
    """The model's windows, with vectors of chance: what is alone is found by any."""

    def __init__(self, model: Embedder) -> None:
        super().__init__(model.dimension)
        self._model = model

    async def windows(self, text: str, prefix: str = "") -> Windows:
        return await self._model.windows(text, prefix)


@pytest.mark.parametrize("pattern", ["e@1", "b_", "/~", "kettle <!-- ", "漢"])
async def test_a_long_text_of_marks_is_stored_and_found_in_time(
    open_driver: OpenDriver, new_database: NewDatabase, embedder: Embedder, pattern: str
) -> None:
    driver = await open_driver(await new_database(), instead=Cut(embedder), timeout=3.0)
    text, query = (pattern * 32_768)[:32_768], (pattern * 8_192)[:8_192]
    await driver.store("ada", text)
    for use_vector in (True, False):
        found = await driver.recall("ada", query=query, use_vector=use_vector)
        assert [memory.content for memory in found] == [text] or pattern == "/~"
