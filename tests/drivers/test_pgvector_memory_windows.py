"""Memories longer than the model reads: their windows in PostgreSQL, whatever becomes of them."""

from dataclasses import replace
from typing import Any

import pytest

from app.embedding import Embedder
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_changed import run
from tests.drivers.test_pgvector_index import connected
from tests.drivers.test_pgvector_knowledge_windows import FACT, LATER, LONG, Reading

TEXT = f"{LONG} {FACT}"


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


async def count(url: str) -> int:
    """The windows that there are."""
    async with connected(url) as connection:
        found: int = await connection.fetchval("select count(*) from memory_windows")
    return found


@pytest.mark.parametrize(
    "statement", ["delete from memories", "truncate memories", "update memories set content = 'x'"]
)
async def test_whatever_sql_takes_a_text_away_nothing_of_it_is_left(
    url: str, open_driver: OpenDriver, statement: str
) -> None:
    driver = await open_driver(url)
    await driver.store("ada", TEXT)
    assert await count(url) > 2
    await run(url, statement)
    assert await count(url) == 0


async def test_who_deletes_a_memory_or_a_user_leaves_no_windows(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    stored = await driver.store("ada", TEXT)
    assert await driver.delete(stored.memory_id, "ada")
    assert await count(url) == 0
    await driver.store("ada", TEXT)
    assert await driver.delete_user("ada") == 1
    assert await count(url) == 0


@pytest.mark.parametrize("by", ["update", "import"])
async def test_a_content_that_is_replaced_leaves_no_windows(
    url: str, open_driver: OpenDriver, by: str
) -> None:
    driver = await open_driver(url)
    stored = await driver.store("ada", TEXT)
    if by == "update":
        await driver.update(stored.memory_id, "ada", {"content": "short"})
    else:
        later = replace(stored, content="short", updated_at=stored.updated_at + LATER)
        await driver.import_records([later])
    assert await count(url) == 0
    await driver.update(stored.memory_id, "ada", {"content": TEXT})
    assert await count(url) > 2


async def test_what_changes_but_the_text_keeps_its_windows_without_embedding(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    driver = await open_driver(url, instead=reading)
    stored = await driver.store("ada", TEXT)
    windows = await count(url)
    reading.texts.clear()
    patch: dict[str, Any] = {"tags": ["a"], "conversation_id": "house"}
    assert await driver.update(stored.memory_id, "ada", patch)
    assert reading.texts == []
    assert await count(url) == windows


async def test_a_speaker_who_is_told_later_is_in_every_window(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    driver = await open_driver(url, instead=reading)
    stored = await driver.store("ada", TEXT)
    windows = await count(url)
    reading.texts.clear()
    assert await driver.update(stored.memory_id, "ada", {"metadata": {"speaker": "Mira"}})
    assert len(reading.texts) == await count(url) + 1 >= windows
    assert all(text.startswith("Mira: ") for text in reading.texts)


async def test_a_content_that_others_change_meanwhile_gets_its_windows_again(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    slow, quick = await open_driver(url, instead=reading), await open_driver(url)
    first = await quick.store("ada", TEXT)
    windows = await count(url)
    second = replace(first, content="short", updated_at=first.updated_at + LATER)
    third = replace(first, tags=["again"], updated_at=second.updated_at + LATER)
    reading.meanwhile = lambda: quick.import_records([second])
    await slow.import_records([third])
    assert reading.meanwhile is None
    assert await slow.get(first.memory_id, "ada") == third
    assert await count(url) == windows
