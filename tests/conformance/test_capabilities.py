"""Get, list and batches, where a driver has them."""

import asyncio
from dataclasses import replace

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewMemory
from app.errors import InvalidInput
from tests.conformance.cases import WAYS


async def test_a_memory_is_got_by_its_owner_alone(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle", tags=["x"], metadata={"n": 1.0})
    assert await driver.get(stored.memory_id, "ada") == stored
    assert await driver.get(stored.memory_id, "bob") is None


async def test_a_batch_is_stored_in_order(driver: RecordDriver) -> None:
    contents = [f"{'long ' * (n % 7 * 5)}kettle {n}" for n in range(50)]
    batch = [NewMemory(user_id=f"user {n % 3}", content=c) for n, c in enumerate(contents)]
    stored = await driver.store_many(batch)
    assert [memory.content for memory in stored] == contents
    assert [memory.memory_id for memory in stored] == sorted(m.memory_id for m in stored)
    for n in range(3):
        found = await driver.recall(f"user {n}", top_k=100)
        assert [memory.content for memory in found] == contents[n::3][::-1]
    best = await driver.recall("user 1", query=contents[13], top_k=1)
    assert best[0].content == contents[13]


async def test_a_batch_out_of_range_is_refused(driver: RecordDriver) -> None:
    for size in (0, 1_001):
        with pytest.raises(InvalidInput, match="1000"):
            await driver.store_many([NewMemory(user_id="ada", content="kettle")] * size)
        assert await driver.recall("ada") == []


async def test_pages_visit_every_memory_once_newest_first(driver: RecordDriver) -> None:
    batch = [
        NewMemory(user_id="ada", content=f"kettle {n}", conversation_id="a" if n % 2 else None)
        for n in range(25)
    ]
    stored = await driver.store_many(batch)
    await driver.store("bob", "kettle")
    seen, cursor, pages = [], None, 0
    while pages == 0 or cursor is not None:
        page = await driver.list_memories("ada", cursor=cursor, limit=10)
        seen += page.memories
        cursor, pages = page.next_cursor, pages + 1
        if pages == 1:
            await driver.store("ada", "newer than every page")
    assert seen == stored[::-1]
    assert pages == 3
    of_a = await driver.list_memories("ada", "a", limit=100)
    assert of_a.memories == [m for m in stored[::-1] if m.conversation_id == "a"]
    assert of_a.next_cursor is None


async def test_a_last_full_page_has_no_next(driver: RecordDriver) -> None:
    for n in range(4):
        await driver.store("ada", f"kettle {n}")
    first = await driver.list_memories("ada", limit=2)
    last = await driver.list_memories("ada", limit=2, cursor=first.next_cursor)
    assert len(last.memories) == 2
    assert last.next_cursor is None


async def test_a_cursor_that_no_page_gave_is_refused(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    await driver.store("ada", "kettle")
    for cursor in ("", "x", "AAAA", "é", "A" * 32 + "=", "\x00", "/" * 32):
        with subtests.test(cursor=cursor), pytest.raises(InvalidInput):
            await driver.list_memories("ada", cursor=cursor)


async def test_another_users_cursor_shows_nothing_of_theirs(driver: RecordDriver) -> None:
    for n in range(3):
        await driver.store("ada", f"ada's kettle {n}")
        await driver.store("bob", f"bob's kettle {n}")
    cursor = (await driver.list_memories("ada", limit=1)).next_cursor
    page = await driver.list_memories("bob", cursor=cursor)
    assert {memory.user_id for memory in page.memories} == {"bob"}


async def test_an_export_has_every_record_once_as_it_was(driver: RecordDriver) -> None:
    batch = [
        NewMemory(user_id=f"user {n % 3}", content=f"kettle {n}", tags=["x"], metadata={"n": 1.0})
        for n in range(12)
    ]
    stored: list[Memory | Knowledge] = []
    stored += await driver.store_many(batch)
    stored.append(await driver.store_global_knowledge("kettle", "kitchen", title="Care"))
    gone = await driver.store("user 1", "forgotten")
    await driver.delete(gone.memory_id, "user 1")
    exported = [record async for record in driver.export_records()]
    assert len(exported) == len(stored)
    assert all(record in exported for record in stored)


async def test_concurrent_stores_are_all_kept(driver: RecordDriver) -> None:
    stored = await asyncio.gather(*(driver.store("ada", f"kettle {n}") for n in range(60)))
    found = await driver.recall("ada", top_k=100)
    assert {memory.memory_id for memory in found} == {memory.memory_id for memory in stored}
    assert [m.memory_id for m in found] == sorted((m.memory_id for m in stored), reverse=True)


async def test_imported_records_are_as_they_were_and_there_once(driver: RecordDriver) -> None:
    kept = await driver.store("ada", "a kettle", "c", ["x"], {"n": 1.0})
    knowledge = await driver.store_global_knowledge("a kettle", "kitchen", title="Care")
    await driver.delete(kept.memory_id, "ada")
    for _ in range(2):
        await driver.import_records([kept, knowledge])
    await driver.import_records([])
    assert await driver.recall("ada") == [kept]
    found = await driver.recall_global_knowledge("kettle")
    assert [each.knowledge_id for each in found] == [knowledge.knowledge_id]
    for arguments in WAYS[1:]:
        again = await driver.recall("ada", "c", **arguments)
        assert [memory.memory_id for memory in again] == [kept.memory_id]


async def test_an_import_leaves_what_is_there_as_it_is(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    other = replace(stored, content="something else")
    await driver.import_records([other])
    assert await driver.recall("ada") == [stored]


async def test_the_owner_of_a_memory_is_known(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "kettle")
    assert await driver.owner_of(stored.memory_id.upper()) == "ada"
    await driver.delete(stored.memory_id)
    assert await driver.owner_of(stored.memory_id) is None
