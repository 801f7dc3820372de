"""Knowledge for everyone."""

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewKnowledge
from app.errors import InvalidInput


async def test_knowledge_comes_back_as_it_was(driver: RecordDriver) -> None:
    stored = await driver.store_global_knowledge(
        " Descale with lemon.\n", "Küche", title="Kettle", doc_id="doc-1", metadata={"z": 1, "a": 2}
    )
    found = await driver.recall_global_knowledge("descale")
    assert (found[0].content, found[0].category) == (" Descale with lemon.\n", "Küche")
    assert (found[0].title, found[0].doc_id) == ("Kettle", "doc-1")
    assert list(found[0].metadata) == ["z", "a"]
    assert found[0].created_at == stored.created_at
    assert await driver.get_knowledge(stored.knowledge_id) == stored


async def test_the_best_knowledge_comes_first(driver: RecordDriver) -> None:
    for content in ("Trains leave at nine.", "Clean a kettle with lemon.", "Basil likes the sun."):
        await driver.store_global_knowledge(content, "house")
    found = await driver.recall_global_knowledge("How do I clean my kettle?", top_k=2)
    assert found[0].content == "Clean a kettle with lemon."
    assert len(found) == 2
    assert all(record.score is not None and 0 <= record.score <= 1 for record in found)


async def test_a_category_is_exact_and_comes_before_the_limit(driver: RecordDriver) -> None:
    for n in range(8):
        await driver.store_global_knowledge(f"kettle {n}", "kitchen" if n < 4 else "Kitchen")
    found = await driver.recall_global_knowledge("kettle", top_k=4, category="kitchen")
    assert [record.category for record in found] == ["kitchen"] * 4
    assert await driver.recall_global_knowledge("kettle", category="kitch") == []


async def test_one_doc_id_may_have_several_records(driver: RecordDriver) -> None:
    for part in ("first", "second"):
        await driver.store_global_knowledge(f"{part} part", "book", doc_id="book-1")
    assert len(await driver.recall_global_knowledge("part")) == 2


async def test_equal_knowledge_is_newest_first(driver: RecordDriver) -> None:
    ids = [(await driver.store_global_knowledge("same", "c")).knowledge_id for _ in range(4)]
    found = await driver.recall_global_knowledge("same")
    assert [record.knowledge_id for record in found] == ids[::-1]


async def test_deleted_knowledge_is_gone(driver: RecordDriver) -> None:
    stored = await driver.store_global_knowledge("kettle", "kitchen")
    assert await driver.delete_knowledge(stored.knowledge_id) is True
    assert await driver.delete_knowledge(stored.knowledge_id) is False
    assert await driver.recall_global_knowledge("kettle") == []
    assert await driver.get_knowledge(stored.knowledge_id) is None


async def test_a_batch_of_knowledge_is_all_or_none(driver: RecordDriver) -> None:
    stored = await driver.store_knowledge_many(
        [NewKnowledge(content=f"kettle {n}", category="kitchen") for n in range(3)]
    )
    assert [record.content for record in stored] == ["kettle 0", "kettle 1", "kettle 2"]
    bad = [NewKnowledge(content="pan", category="x"), NewKnowledge(content="pan", category="")]
    with pytest.raises(InvalidInput) as refusal:
        await driver.store_knowledge_many(bad)
    assert refusal.value.loc == ("knowledge", 1, "category")
    assert len(await driver.recall_global_knowledge("pan", top_k=100)) == 3
