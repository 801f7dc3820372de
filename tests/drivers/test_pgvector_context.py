"""Vectors in context: a memory's second vector, of itself after the turns before it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import asyncpg
import pytest

from app.core.memory.records import Memory, NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits, RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.watched import Watched

KETTLE = "Which kettle do you want to buy?"
ANSWER = "The red one over there."


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
def watched(embedder: Embedder) -> Watched:
    return Watched(embedder)


@pytest.fixture
async def driver(url: str, watched: Watched) -> AsyncIterator[PgvectorDriver]:
    """A driver with vectors in context, and no other evidence."""
    recall = RecallSettings(ranking="vector", context=True)
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, watched, Limits(), recall) as driver:
        watched.texts.clear()
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


async def contexts(url: str) -> list[str | None]:
    """The vectors in context of all memories, in the order of their time."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select context::text from memories order by memory_id")
    await connection.close()
    return [row["context"] for row in rows]


async def test_a_changed_memory_is_made_anew_with_the_turns_before_it_not_the_last_ones(
    driver: PgvectorDriver, watched: Watched, url: str
) -> None:
    said = ["Hello.", "How are you?", ANSWER, "Good.", "See you."]
    stored = [await driver.store("ada", text, "shop") for text in said]
    before = await contexts(url)
    watched.texts.clear()
    await driver.update(stored[2].memory_id, "ada", {"content": KETTLE})
    assert watched.texts == [KETTLE, f"Hello.\nHow are you?\n{KETTLE}"]
    after = await contexts(url)
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        *(True, True, False, True, True)
    ]


async def test_a_memory_of_another_conversation_is_made_anew_with_what_was_said_there(
    driver: PgvectorDriver, watched: Watched, url: str
) -> None:
    await driver.store("ada", KETTLE, "shop")
    await driver.store("ada", "Hello.", "elsewhere")
    stored = await driver.store("ada", ANSWER, "elsewhere")
    await driver.store("ada", "Later.", "shop")
    watched.texts.clear()
    await driver.update(stored.memory_id, "ada", {"conversation_id": "shop"})
    assert watched.texts == [f"{KETTLE}\n{ANSWER}"]  # its own vector stays
    assert await driver.update(stored.memory_id, "ada", {"conversation_id": None})
    assert len(watched.texts) == 1
    assert (await contexts(url))[2] is None


async def test_a_memory_that_says_the_same_in_the_same_place_keeps_its_vector_in_context(
    driver: PgvectorDriver, watched: Watched, url: str
) -> None:
    await driver.store("ada", KETTLE, "shop")
    stored = await driver.store("ada", ANSWER, "shop")
    before = await contexts(url)
    watched.texts.clear()
    await driver.update(stored.memory_id, "ada", {"tags": ["a"], "metadata": {"b": 1}})
    assert watched.texts == []
    assert await contexts(url) == before
    assert before[1] is not None


async def test_an_imported_memory_is_made_with_what_was_said_before_it_in_whatever_order_it_comes(
    driver: PgvectorDriver, watched: Watched
) -> None:
    said = ["Hello.", KETTLE, ANSWER, "Good.", "See you."]
    stored = [await driver.store("ada", text, "shop") for text in said]
    await driver.delete_user("ada")

    async def imported(*places: int) -> list[str]:
        """The texts in context that an import of the memories at these places embeds."""
        watched.texts.clear()
        await driver.import_records([stored[n] for n in places])
        return watched.texts[len(places) :]

    assert await imported(4, 1) == [f"{KETTLE}\nSee you."]
    assert await imported(2, 0) == [f"Hello.\n{KETTLE}\n{ANSWER}"]
    assert await imported(3) == [f"{KETTLE}\n{ANSWER}\nGood."]
    assert await imported(4, 3, 2, 1, 0) == []


async def test_turns_that_one_import_changes_are_context_as_they_will_be(
    driver: PgvectorDriver, watched: Watched
) -> None:
    stored = [await driver.store("ada", text, "shop") for text in ("Hello.", "Tea?", ANSWER)]

    def later(memory: Memory, content: str) -> Memory:
        version = memory.updated_at + timedelta(microseconds=1)
        return replace(memory, content=content, updated_at=version)

    watched.texts.clear()
    await driver.import_records([later(stored[2], "No, the blue one."), later(stored[1], KETTLE)])
    assert watched.texts[2:] == [f"Hello.\n{KETTLE}", f"Hello.\n{KETTLE}\nNo, the blue one."]


async def test_without_the_setting_a_changed_memory_has_no_vector_of_what_it_was(
    driver: PgvectorDriver, url: str, embedder: Embedder
) -> None:
    await driver.store("ada", KETTLE, "shop")
    stored = [await driver.store("ada", ANSWER, "shop") for _ in range(2)]
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as without:
        await without.update(stored[0].memory_id, "ada", {"tags": ["a"]})
        await without.update(stored[1].memory_id, "ada", {"content": "Tea, please."})
    assert [vector is None for vector in await contexts(url)] == [True, False, True]


async def test_without_the_setting_a_memory_has_one_vector(url: str, embedder: Embedder) -> None:
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        await driver.store("ada", KETTLE, "shop")
        await driver.store("ada", ANSWER, "shop")
        assert len(await driver.recall("ada", query="kettle")) == 2
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("select count(context) from memories") == 0
    await connection.close()
