"""Puts of documents that come late, twice, end in the middle, or are made by two processes."""

from dataclasses import replace

import pytest
from starlette.responses import JSONResponse

from app.core.memory.records import Knowledge, NewKnowledge
from app.core.memory.requests import Put
from app.drivers.pinecone import PineconeDriver
from app.errors import DriverUnavailable, MemoryServiceError
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import FakePinecone

FAILURE = JSONResponse({"code": 13, "message": "internal", "details": []}, 500)


async def contents(driver: PineconeDriver, doc_id: str = "kettles") -> list[str]:
    """What every read shows of the document."""
    listed = (await driver.list_knowledge(doc_id=doc_id, limit=100)).knowledge
    found = await driver.recall_global_knowledge("kettle", 100, doc_id=doc_id)
    exported = [r async for r in driver.export_records() if isinstance(r, Knowledge)]
    own = [one for one in exported if one.doc_id == doc_id]
    assert sorted(one.content for one in found) == sorted(one.content for one in listed)
    assert sorted(one.content for one in own) == sorted(one.content for one in listed)
    for one in listed:
        assert await driver.get_knowledge(one.knowledge_id) == one
    return [one.content for one in listed]


async def put(driver: PineconeDriver, *pieces: str) -> list[Knowledge]:
    return await driver.put_document("kettles", category="c", pieces=pieces)


@pytest.mark.parametrize("upsert", range(3))
async def test_a_put_that_fails_leaves_the_document_as_it_was(
    open_pinecone: OpenPinecone, index: FakePinecone, upsert: int
) -> None:
    driver = await open_pinecone(repeats=0, most_bytes=12_000)
    await put(driver, "old 1", "old 2")
    count = 0

    async def one_of_them(_: object) -> JSONResponse | None:
        nonlocal count
        count += 1
        return FAILURE if count == upsert + 1 else None

    index.fail("/vectors/upsert", one_of_them, 3)
    with pytest.raises(DriverUnavailable):
        await put(driver, "new 1", "new 2")
    index.faults.clear()
    assert await contents(driver) == ["old 1", "old 2"]
    fresh = await open_pinecone()
    assert await contents(fresh) == ["old 1", "old 2"]
    await put(driver, "new 1")
    assert await contents(driver) == await contents(fresh) == ["new 1"]
    assert len(index.vectors("m")) == 1


async def test_what_a_put_could_not_delete_stays_unseen(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=0)
    old = await put(driver, "old 1", "old 2")
    index.fail("/vectors/delete", FAILURE)
    with pytest.raises(DriverUnavailable):
        await put(driver, "new")
    for each in (driver, await open_pinecone()):
        assert await contents(each) == ["new"]
        assert await each.get_knowledge(old[0].knowledge_id) is None
        assert await each.update_knowledge(old[0].knowledge_id, {"content": "x"}) is None
        assert not await each.delete_knowledge(old[0].knowledge_id)
    await put(driver, "newer")
    assert await contents(driver) == ["newer"]
    assert len(index.vectors("m")) == 1


def piece(driver: PineconeDriver, content: str) -> Knowledge:
    one, now = driver.clock.new_id()
    return Knowledge(
        knowledge_id=one,
        content=content,
        category="c",
        doc_id="kettles",
        position=0,
        created_at=now,
    )


async def test_of_puts_in_any_order_and_twice_the_later_one_stays(
    pinecone: PineconeDriver,
) -> None:
    alone = await pinecone.store_global_knowledge("alone", "c", doc_id="kettles")
    early = pinecone.clock.end_of_now()
    late = pinecone.clock.end_of_now()
    first = Put(doc_id="kettles", records=[piece(pinecone, "first")]).at(early)
    second = Put(doc_id="kettles", records=[piece(pinecone, "second")]).at(late)
    await pinecone._put(second)
    assert await contents(pinecone) == ["second"]
    assert await pinecone.get_knowledge(alone.knowledge_id) is None
    for one in (first, second, first):
        await pinecone._put(one)
        assert await contents(pinecone) == ["second"]


async def test_what_was_stored_after_the_put_s_moment_stays_when_it_comes_late(
    pinecone: PineconeDriver,
) -> None:
    moment = pinecone.clock.end_of_now()
    made = Put(doc_id="kettles", records=[piece(pinecone, "put")]).at(moment)
    await pinecone.store_global_knowledge("later", "c", doc_id="kettles")
    await pinecone._put(made)
    assert await contents(pinecone) == ["put", "later"]


async def test_an_import_brings_back_what_a_put_has_replaced(pinecone: PineconeDriver) -> None:
    old = await put(pinecone, "old 1", "old 2")
    await pinecone.delete_document("kettles")
    assert await contents(pinecone) == []
    await pinecone.import_records(old)
    assert await contents(pinecone) == ["old 1", "old 2"]


async def test_a_put_of_another_process_is_seen_as_a_whole(
    pinecone: PineconeDriver, open_pinecone: OpenPinecone
) -> None:
    other = await open_pinecone()
    await put(pinecone, "one", "two")
    assert await contents(other) == ["one", "two"]
    await put(other, "three")
    assert await contents(pinecone) == ["three"]


async def test_a_document_in_a_user_s_memories_is_put_at_once(pinecone: PineconeDriver) -> None:
    mine = await pinecone.store("ada", "old", "c", metadata={"doc_id": "kettles"})
    new = replace(
        mine,
        memory_id=pinecone.clock.new_id()[0],
        content="new",
        metadata={"doc_id": "kettles", "position": 0},
    )
    made = Put(doc_id="kettles", records=[new], user_id="ada").at(pinecone.clock.end_of_now())
    _, count = await pinecone._put(made)
    assert count == 1
    for way in ({}, {"query": "new"}, {"query": "new old", "use_vector": False}):
        assert [one.content for one in await pinecone.recall("ada", **way)] == ["new"]
    assert await pinecone.get(mine.memory_id, "ada") is None
    assert await pinecone.delete_user("ada") == 1


async def test_knowledge_that_expired_is_not_counted_by_a_put(pinecone: PineconeDriver) -> None:
    new = [NewKnowledge(content=f"{n}", category="c", doc_id="kettles") for n in range(2)]
    stored = await pinecone.store_knowledge_many(new)
    await pinecone.import_records(
        [replace(stored[0], expires_at=stored[0].created_at, updated_at=pinecone.clock.now())]
    )
    assert await pinecone.delete_document("kettles") == 1


async def test_a_put_in_an_index_that_is_away_is_an_error(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    index.fail("/", FAILURE, 50)
    with pytest.raises(MemoryServiceError):
        await put(pinecone, "one")
    index.faults.clear()
    assert await contents(pinecone) == []
