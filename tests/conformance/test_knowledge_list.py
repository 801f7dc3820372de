"""The list of knowledge: newest first or as a document has it, exact while others write."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, NewKnowledge
from app.errors import InvalidInput


async def store(driver: RecordDriver, count: int) -> list[Knowledge]:
    """So many records, in three categories and two documents."""
    new = [
        NewKnowledge(
            content=f"kettle {n}",
            category=f"category {n % 3}",
            doc_id=f"doc {n % 2}" if n % 4 else None,
            metadata={"n": n},
        )
        for n in range(count)
    ]
    return await driver.store_knowledge_many(new)


async def everything(driver: RecordDriver, limit: int, **wanted: object) -> list[Knowledge]:
    found: list[Knowledge] = []
    cursor = None
    while True:
        page = await driver.list_knowledge(cursor=cursor, limit=limit, **wanted)  # type: ignore[arg-type]
        assert len(page.knowledge) <= limit
        found += page.knowledge
        cursor = page.next_cursor
        if cursor is None:
            return found


async def test_pages_visit_every_record_once_newest_first(driver: RecordDriver) -> None:
    stored = await store(driver, 25)
    assert await driver.list_knowledge(limit=100) == await driver.list_knowledge(limit=100)
    for limit in (1, 7, 25, 100):
        assert await everything(driver, limit) == stored[::-1]
    of_one = [each for each in stored[::-1] if each.category == "category 1"]
    assert await everything(driver, 3, category="category 1") == of_one
    assert await everything(driver, 3, category="category") == []


async def test_a_document_is_listed_in_its_order(driver: RecordDriver) -> None:
    stored = await store(driver, 25)
    own = [each for each in stored if each.doc_id == "doc 1"]
    for limit in (1, 5, 100):
        assert await everything(driver, limit, doc_id="doc 1") == own
    of_both = [each for each in own if each.category == "category 0"]
    assert await everything(driver, 2, doc_id="doc 1", category="category 0") == of_both


async def test_a_filter_comes_before_the_limit(driver: RecordDriver) -> None:
    stored = await store(driver, 25)
    late = [each for each in stored[::-1] if each.metadata["n"] >= 10]
    assert await everything(driver, 4, filter={"metadata": {"n": {"gte": 10}}}) == late
    none = {"metadata": {"n": {"gt": 100}}}
    assert await everything(driver, 4, filter=none) == []
    own = [each for each in stored if each.doc_id == "doc 0" and each.metadata["n"] >= 10]
    found = await everything(driver, 2, doc_id="doc 0", filter={"metadata": {"n": {"gte": 10}}})
    assert found == own


async def test_a_last_full_page_has_no_next(driver: RecordDriver) -> None:
    await store(driver, 4)
    first = await driver.list_knowledge(limit=2)
    last = await driver.list_knowledge(limit=2, cursor=first.next_cursor)
    assert len(last.knowledge) == 2
    assert last.next_cursor is None


async def test_pages_are_exact_while_others_write(driver: RecordDriver) -> None:
    stored = await store(driver, 20)
    first = await driver.list_knowledge(limit=8)
    await driver.delete_knowledge(stored[15].knowledge_id)  # on the first page
    await driver.delete_knowledge(stored[3].knowledge_id)
    await driver.store_global_knowledge("newer than every page", "category 0")
    assert first.next_cursor is not None
    rest = await driver.list_knowledge(limit=100, cursor=first.next_cursor)
    assert rest.knowledge == [each for each in stored[11::-1] if each is not stored[3]]


async def test_what_has_expired_is_not_listed(driver: RecordDriver) -> None:
    stored = await store(driver, 3)
    brief = await driver.store_global_knowledge("brief", "category 0", doc_id="doc 1", ttl=60)
    assert (await driver.list_knowledge(limit=1)).knowledge == [brief]
    gone = replace(
        brief,
        updated_at=brief.updated_at + timedelta(microseconds=1),
        expires_at=brief.created_at - timedelta(seconds=1),
    )
    await driver.import_records([gone])
    assert (await driver.list_knowledge()).knowledge == stored[::-1]
    assert brief not in (await driver.list_knowledge(doc_id="doc 1")).knowledge


async def test_a_cursor_that_no_page_of_such_a_list_gave_is_refused(driver: RecordDriver) -> None:
    await store(driver, 9)
    newest = (await driver.list_knowledge(limit=1)).next_cursor
    of_document = (await driver.list_knowledge(doc_id="doc 1", limit=1)).next_cursor
    assert newest is not None
    assert of_document is not None
    for cursor in ("", "x", "AAAA", "é", newest[:-1], of_document):
        with pytest.raises(InvalidInput):
            await driver.list_knowledge(cursor=cursor)
    for cursor in ("", "x", "A" * 40, newest):
        with pytest.raises(InvalidInput):
            await driver.list_knowledge(doc_id="doc 1", cursor=cursor)


async def test_arguments_out_of_range_are_refused(driver: RecordDriver) -> None:
    for arguments, name in (
        ({"limit": 0}, "limit"),
        ({"limit": 101}, "limit"),
        ({"category": ""}, "category"),
        ({"doc_id": "x" * 257}, "doc_id"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            await driver.list_knowledge(**arguments)
        assert refusal.value.loc == (name,)
