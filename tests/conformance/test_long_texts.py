"""Texts and questions longer than a model reads: what stands at their end counts, too."""

import pytest

from app.core.memory.record_driver import RecordDriver
from app.embedding import Embedder
from tests.conformance.cases import Case
from tests.remembering import Remembering

MATTERS = [
    "The committee discussed the repair of the northern footbridge and its wooden railing.",
    "Several speakers wished for lamps along the river path before the winter.",
    "The treasurer read out the figures of the summer fair and thanked the bakers.",
    "A new roof for the rowing club was put off until the spring.",
    "Nobody objected to planting twelve lime trees around the market square.",
    "The choir asked for a larger room, and the school offered its gymnasium.",
]
LONG = " ".join(MATTERS * 21)
OTHER = " ".join(MATTERS[::-1] * 21)
FACT = "Mira keeps the spare key under the blue flowerpot."
ASKED = "How could somebody get into her house after locking themselves out?"
"""In other words than those of the fact."""
QUESTION = "Where is the key to get into the house?"
SHORT = [
    "The train to Lyon leaves at nine.",
    "Basil likes the sun and a little water.",
    "The kettle is made of copper.",
]


@pytest.fixture(scope="session")
def embedder(embedder: Embedder) -> Embedder:
    return Remembering(embedder)


def test_the_long_text_has_1_600_words_and_the_question_none_of_the_fact() -> None:
    assert 1_590 < len(f"{LONG} {FACT}".split()) < 1_610
    assert not set(ASKED.lower().strip("?").split()) & set(FACT.lower().strip(".").split())


async def test_a_fact_at_the_end_of_a_long_memory_is_found_in_other_words(
    driver: RecordDriver, case: Case
) -> None:
    text = f"{LONG} {FACT}" if case.embeds_whole_texts else f"{FACT} {LONG}"
    for content in (text, OTHER, *SHORT):
        await driver.store("ada", content)
    assert (await driver.recall("ada", query=ASKED))[0].content == text


async def test_a_fact_at_the_end_of_a_long_memory_is_found_by_its_words(
    driver: RecordDriver,
) -> None:
    for content in (f"{LONG} {FACT}", OTHER, *SHORT):
        await driver.store("ada", content)
    found = await driver.recall("ada", query="spare key flowerpot", use_vector=False)
    assert [memory.content for memory in found] == [f"{LONG} {FACT}"]


async def test_a_question_at_the_end_of_a_long_query_is_answered(
    driver: RecordDriver, case: Case
) -> None:
    before = " ".join(MATTERS * 8)[: 2_999 - len(QUESTION)]
    query = f"{before} {QUESTION}" if case.embeds_whole_texts else f"{QUESTION} {before}"
    assert len(query) == 3_000
    for content in (FACT, *SHORT):
        await driver.store("ada", content)
    assert (await driver.recall("ada", query=query))[0].content == FACT


async def test_an_end_that_an_update_takes_away_counts_no_more(
    driver: RecordDriver, case: Case
) -> None:
    stored = await driver.store("ada", f"{LONG} {FACT}")
    [before] = await driver.recall("ada", query=QUESTION)
    await driver.update(stored.memory_id, "ada", {"content": LONG})
    assert await driver.recall("ada", query="flowerpot", use_vector=False) == []
    [after] = await driver.recall("ada", query=QUESTION)
    await driver.store("bob", LONG)
    [never_there] = await driver.recall("bob", query=QUESTION)
    if case.embeds_whole_texts:
        assert after.score == pytest.approx(never_there.score, abs=1e-5)
        assert (before.score or 0) > (after.score or 0) + 0.05


async def test_of_a_deleted_long_memory_nothing_is_left(driver: RecordDriver) -> None:
    stored = await driver.store("ada", f"{LONG} {FACT}")
    assert await driver.delete(stored.memory_id, "ada")
    await driver.import_records([stored])
    again = await driver.recall("ada", query=ASKED)
    assert [memory.memory_id for memory in again] == [stored.memory_id]
    assert await driver.delete(stored.memory_id, "ada")
    assert await driver.recall("ada", query=ASKED) == []


async def test_knowledge_is_found_by_its_end_in_other_words(
    driver: RecordDriver, case: Case
) -> None:
    text = f"{LONG} {FACT}" if case.embeds_whole_texts else f"{FACT} {LONG}"
    for content in (text, OTHER, *SHORT):
        await driver.store_global_knowledge(content, "house")
    await driver.store_global_knowledge(f"{OTHER} {FACT}", "elsewhere")
    for category in (None, "house"):
        found = await driver.recall_global_knowledge(ASKED, 5, category)
        first = [record.content for record in found if record.category == "house"]
        assert first[0] == text
        assert len({record.knowledge_id for record in found}) == 5


async def test_a_question_at_the_end_of_a_long_query_is_answered_by_knowledge(
    driver: RecordDriver, case: Case
) -> None:
    before = " ".join(MATTERS * 8)[: 2_999 - len(QUESTION)]
    query = f"{before} {QUESTION}" if case.embeds_whole_texts else f"{QUESTION} {before}"
    for content in (FACT, *SHORT):
        await driver.store_global_knowledge(content, "house")
    assert (await driver.recall_global_knowledge(query))[0].content == FACT


async def test_an_end_of_knowledge_that_an_update_takes_away_counts_no_more(
    driver: RecordDriver, case: Case
) -> None:
    stored = await driver.store_global_knowledge(f"{LONG} {FACT}", "house")
    [before] = await driver.recall_global_knowledge(QUESTION)
    await driver.update_knowledge(stored.knowledge_id, {"category": "elsewhere"})
    assert await driver.recall_global_knowledge(QUESTION, category="house") == []
    [moved] = await driver.recall_global_knowledge(QUESTION, category="elsewhere")
    await driver.update_knowledge(stored.knowledge_id, {"content": LONG})
    [after] = await driver.recall_global_knowledge(QUESTION)
    await driver.update_knowledge(stored.knowledge_id, {"content": f"{LONG} {FACT}"})
    [again] = await driver.recall_global_knowledge(QUESTION)
    assert await driver.delete_knowledge(stored.knowledge_id)
    assert await driver.recall_global_knowledge(QUESTION) == []
    await driver.import_records([stored])
    [imported] = await driver.recall_global_knowledge(QUESTION)
    if case.embeds_whole_texts:
        for same in (moved, again, imported):
            assert same.score == pytest.approx(before.score, abs=1e-5)
        assert (before.score or 0) > (after.score or 0) + 0.03
