"""Vectors in context: a memory's second vector, of itself after the turns before it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits, RecallSettings
from tests.conftest import NewDatabase

KETTLE = "Which kettle do you want to buy?"
ANSWER = "The red one over there."


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def driver(url: str, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    """A driver with vectors in context, and no other evidence."""
    recall = RecallSettings(ranking="vector", context=True)
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits(), recall) as driver:
        yield driver


async def cosine(driver: PgvectorDriver, content: str) -> float:
    """Of the memory with that content, for a question about kettles."""
    found = await driver.recall("ada", query="Which kettle does Ada want?", top_k=20, explain=True)
    (memory,) = (memory for memory in found if memory.content == content)
    assert memory.explanation is not None
    return memory.explanation.cosine


async def test_an_answer_is_found_by_what_was_asked_before(driver: PgvectorDriver) -> None:
    await driver.store("ada", ANSWER, "alone")
    alone = await cosine(driver, ANSWER)
    await driver.delete_user("ada")
    await driver.store("ada", KETTLE, "shop")
    await driver.store("ada", ANSWER, "shop")
    assert await cosine(driver, ANSWER) > alone + 0.2


async def test_a_batch_gives_its_own_earlier_memories_as_context(
    driver: PgvectorDriver, embedder: Embedder
) -> None:
    texts = ["Hello.", KETTLE, ANSWER]
    await driver.store_many(
        [NewMemory(user_id="ada", content=text, conversation_id="shop") for text in texts]
    )
    query = await embedder.embed_query("Which kettle does Ada want?")
    expected = float((await embedder.embed(["\n".join(texts)]))[0] @ query)
    assert await cosine(driver, ANSWER) == pytest.approx(expected, abs=1e-4)


async def test_only_two_turns_before_are_context(
    driver: PgvectorDriver, embedder: Embedder
) -> None:
    for text in ("Long gone.", "Hello.", KETTLE):
        await driver.store("ada", text, "shop")
    await driver.store("ada", ANSWER, "shop", metadata={"speaker": "Bob"})
    query = await embedder.embed_query("Which kettle does Ada want?")
    context = "\n".join(["Hello.", KETTLE, f"Bob: {ANSWER}"])
    expected = float((await embedder.embed([context]))[0] @ query)
    assert await cosine(driver, ANSWER) == pytest.approx(expected, abs=1e-4)


async def test_a_long_turn_before_leaves_room_for_the_memory_itself(
    driver: PgvectorDriver,
) -> None:
    await driver.store("ada", "The weather was mild and the sky was grey. " * 200, "shop")
    await driver.store("ada", "The copper kettle that Ada wants is in the window.", "shop")
    assert await cosine(driver, "The copper kettle that Ada wants is in the window.") > 0.4


async def test_others_and_other_conversations_are_no_context(
    driver: PgvectorDriver, url: str
) -> None:
    await driver.store("bob", KETTLE, "shop")
    await driver.store("ada", KETTLE, "elsewhere")
    await driver.store("ada", KETTLE)
    await driver.store("ada", ANSWER, "shop")
    await driver.store("ada", ANSWER)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(context) from memories") == 0
    await connection.close()


async def test_without_the_setting_a_memory_has_one_vector(url: str, embedder: Embedder) -> None:
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        await driver.store("ada", KETTLE, "shop")
        await driver.store("ada", ANSWER, "shop")
        assert len(await driver.recall("ada", query="kettle")) == 2
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(context) from memories") == 0
    await connection.close()
