"""One record for one request, however often it is sent, under an id that the caller gives."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewKnowledge, NewMemory
from app.errors import Conflict, InvalidInput

ONE = "00000000-0000-4000-8000-0000000000a1"
TWO = "00000000-0000-4000-8000-0000000000a2"
V1 = "c232ab00-9414-11ec-b3c8-9f6bdeced846"
KETTLE = NewMemory(user_id="ada", content="A copper kettle.", memory_id=ONE)
CARE = NewKnowledge(content="Descale it.", category="kitchen", knowledge_id=ONE)


async def store(driver: RecordDriver, new: NewMemory) -> Memory:
    return await driver.store(
        new.user_id,
        new.content,
        new.conversation_id,
        new.tags,
        new.metadata,
        occurred_at=new.occurred_at,
        expires_at=new.expires_at,
        ttl=new.ttl,
        memory_id=new.memory_id,
    )


async def memories(driver: RecordDriver, user: str = "ada") -> list[Memory]:
    return (await driver.list_memories(user)).memories


async def test_a_memory_has_the_id_that_its_caller_gives(driver: RecordDriver) -> None:
    stored = await store(driver, KETTLE)
    assert stored.memory_id == ONE
    assert not stored.repeated
    assert await driver.get(ONE, "ada") == stored
    assert await driver.recall("ada", query="kettle", use_vector=False)
    knowledge = await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    assert (knowledge.knowledge_id, knowledge.repeated) == (ONE, False)
    assert await driver.get_knowledge(ONE) == knowledge


@pytest.mark.parametrize("given", [str(UUID(int=0)), str(UUID(int=2**128 - 1)), ONE.upper(), V1])
async def test_any_uuid_is_an_id(driver: RecordDriver, given: str) -> None:
    stored = await store(driver, replace(KETTLE, memory_id=given))
    known = await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=given)
    assert stored.memory_id == known.knowledge_id == given.lower()
    found = [record async for record in driver.export_records()]
    assert sorted(found, key=lambda record: isinstance(record, Knowledge)) == [stored, known]
    assert await driver.delete(given, "ada")
    assert await driver.delete_knowledge(given)


@pytest.mark.parametrize("given", ["", "1", ONE[:-1], f"{{{ONE}}}", f"urn:uuid:{ONE}", f"{ONE}\n"])
async def test_what_is_no_uuid_is_refused(driver: RecordDriver, given: str) -> None:
    with pytest.raises(InvalidInput) as error:
        await store(driver, replace(KETTLE, memory_id=given))
    assert error.value.loc == ("memory_id",)
    with pytest.raises(InvalidInput) as error:
        await driver.store_many([KETTLE, replace(KETTLE, memory_id=given)])
    assert error.value.loc == ("memories", 1, "memory_id")
    with pytest.raises(InvalidInput) as error:
        await driver.store_global_knowledge("A.", "b", knowledge_id=given)
    assert error.value.loc == ("knowledge_id",)
    assert await memories(driver) == []


async def test_the_same_again_finds_the_record(driver: RecordDriver) -> None:
    first = await store(driver, KETTLE)
    again = await store(driver, KETTLE)
    assert (again, again.repeated) == (first, True)
    assert await memories(driver) == [first]
    known = await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    twice = await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    assert (twice, twice.repeated) == (known, True)


async def test_the_same_is_known_again_whatever_the_order_of_its_keys(driver: RecordDriver) -> None:
    moment = datetime(2026, 5, 8, 1, 30, tzinfo=timezone(timedelta(hours=9)))
    whole = replace(
        KETTLE,
        conversation_id="kitchen",
        tags=["home"],
        metadata={"a": [1.5, {"c": None, "d": True}], "b": "é"},
        occurred_at=moment,
        ttl=86_400,
    )
    first = await store(driver, whole)
    again = replace(whole, metadata={"b": "é", "a": [1.5, {"d": True, "c": None}]}, ttl=86_400.0)
    assert await store(driver, again) == first
    empty = replace(KETTLE, memory_id=TWO)
    assert await store(driver, empty) == await store(driver, replace(empty, tags=[], metadata={}))


CHANGES: list[dict[str, Any]] = [
    {"content": "A copper kettle"},
    {"conversation_id": "kitchen"},
    {"tags": ["home"]},
    {"metadata": {"a": 1}},
    {"metadata": {"a": True}},
    {"occurred_at": datetime(2026, 5, 8, tzinfo=UTC)},
    {"expires_at": datetime(2999, 1, 1, tzinfo=UTC)},
    {"ttl": 3600},
]


async def test_something_else_under_the_id_is_refused(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    first = await store(driver, KETTLE)
    for change in CHANGES:
        with subtests.test(**change), pytest.raises(Conflict, match=ONE):
            await store(driver, replace(KETTLE, **change))
    assert await memories(driver) == [first]
    await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    for named in ({"title": "Care"}, {"doc_id": "manual"}, {"metadata": {"a": 1}}, {"ttl": 9.0}):
        with subtests.test(**named), pytest.raises(Conflict, match=ONE):
            await driver.store_global_knowledge(
                "Descale it.",
                "kitchen",
                knowledge_id=ONE,
                **named,
            )


async def test_an_id_of_ours_is_no_request(driver: RecordDriver) -> None:
    stored = await driver.store("ada", "A copper kettle.")
    with pytest.raises(Conflict):
        await store(driver, replace(KETTLE, memory_id=stored.memory_id))


async def test_the_same_after_an_update_finds_the_record_as_it_is_now(driver: RecordDriver) -> None:
    await store(driver, KETTLE)
    updated = await driver.update(ONE, "ada", {"content": "An iron kettle.", "tags": ["old"]})
    again = await store(driver, KETTLE)
    assert (again, again.repeated) == (updated, True)
    with pytest.raises(Conflict):
        await store(driver, replace(KETTLE, content="An iron kettle.", tags=["old"]))
    await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    changed = await driver.update_knowledge(ONE, {"title": "Care"})
    assert (
        await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE) == changed
    )


async def test_ids_of_two_users_and_of_knowledge_never_meet(driver: RecordDriver) -> None:
    mine = await store(driver, KETTLE)
    yours = await store(driver, replace(KETTLE, user_id="bob", content="A pan."))
    known = await driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE)
    assert (mine.repeated, yours.repeated, known.repeated) == (False, False, False)
    assert await driver.get(ONE, "ada") == mine
    assert await driver.get(ONE, "bob") == yours
    assert await driver.get_knowledge(ONE) == known


async def test_sixteen_at_once_make_one_record(driver: RecordDriver) -> None:
    answers = await asyncio.gather(*(store(driver, KETTLE) for _ in range(16)))
    assert sum(not answer.repeated for answer in answers) == 1
    assert all(answer == answers[0] for answer in answers)
    assert await memories(driver) == [answers[0]]
    knowledge = await asyncio.gather(*(driver.store_knowledge_many([CARE]) for _ in range(16)))
    assert sum(not known.repeated for [known] in knowledge) == 1
    assert all(known == knowledge[0] for known in knowledge)


async def test_of_sixteen_others_at_once_one_is_stored(driver: RecordDriver) -> None:
    others = [replace(KETTLE, content=f"Kettle {n}.") for n in range(16)]
    answers = await asyncio.gather(
        *(store(driver, other) for other in others), return_exceptions=True
    )
    stored = [answer for answer in answers if isinstance(answer, Memory)]
    assert len(stored) == 1
    assert all(isinstance(a, Conflict) for a in answers if not isinstance(a, Memory))
    assert await memories(driver) == stored


async def test_a_batch_keeps_what_is_new_and_finds_the_rest(driver: RecordDriver) -> None:
    first = await store(driver, KETTLE)
    pan = replace(KETTLE, content="A pan.", memory_id=TWO)
    stored = await driver.store_many([pan, KETTLE, NewMemory(user_id="ada", content="A jar."), pan])
    assert [memory.repeated for memory in stored] == [False, True, False, True]
    assert [memory.memory_id for memory in stored[:2]] == [TWO, ONE]
    assert stored[1] == first
    assert stored[3] == stored[0]
    assert len(await memories(driver)) == 3
    knowledge = await driver.store_knowledge_many([CARE, replace(CARE, knowledge_id=TWO)])
    again = await driver.store_knowledge_many([replace(CARE, knowledge_id=TWO), CARE])
    assert again == knowledge[::-1]
    assert all(known.repeated for known in again)


async def test_a_batch_with_one_conflict_keeps_nothing_and_tells_which(
    driver: RecordDriver,
) -> None:
    await store(driver, KETTLE)
    other = replace(KETTLE, content="A pan.")
    new = replace(other, memory_id=TWO)
    with pytest.raises(Conflict, match=ONE) as error:
        await driver.store_many([new, NewMemory(user_id="ada", content="A jar."), other])
    assert error.value.loc == ("memories", 2)
    with pytest.raises(Conflict, match=TWO) as error:
        await driver.store_many([KETTLE, new, replace(new, content="A pot.")])
    assert error.value.loc == ("memories", 2)
    assert [memory.memory_id for memory in await memories(driver)] == [ONE]
    await driver.store_knowledge_many([CARE])
    with pytest.raises(Conflict, match=ONE) as error:
        await driver.store_knowledge_many(
            [replace(CARE, knowledge_id=TWO), replace(CARE, title="Care")]
        )
    assert error.value.loc == ("knowledge", 1)
    assert await driver.get_knowledge(TWO) is None


async def test_batches_at_once_in_any_order_make_each_record_once(driver: RecordDriver) -> None:
    ids = [str(UUID(int=n, version=4)) for n in range(1, 9)]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    batch = [
        NewMemory(
            user_id=f"user {n % 2}",
            content=f"Jar {n}.",
            memory_id=one,
            occurred_at=start - timedelta(days=n % 3),
        )
        for n, one in enumerate(ids)
    ]
    orders = [batch, batch[::-1], batch[3:] + batch[:3], batch[::2] + batch[1::2]] * 2
    answers = await asyncio.gather(*map(driver.store_many, orders))
    made = [memory for answer in answers for memory in answer if not memory.repeated]
    assert sorted(memory.memory_id for memory in made) == ids
    assert len(await memories(driver, "user 0")) == len(await memories(driver, "user 1")) == 4


async def test_what_expired_is_stored_again(driver: RecordDriver) -> None:
    first = await store(driver, replace(KETTLE, ttl=0.2))
    async with asyncio.timeout(10):
        while await driver.get(ONE, "ada") is not None:
            await asyncio.sleep(0.01)
    again = await store(driver, replace(KETTLE, content="An iron kettle."))
    assert not again.repeated
    assert again.created_at > first.created_at
    assert await memories(driver) == [again]
    found = await driver.recall("ada", query="iron", use_vector=False)
    assert [memory.content for memory in found] == ["An iron kettle."]


async def test_what_was_deleted_is_stored_again(driver: RecordDriver) -> None:
    kept: list[Callable[[], Awaitable[Memory | Knowledge]]] = [
        lambda: store(driver, KETTLE),
        lambda: driver.store_global_knowledge("Descale it.", "kitchen", knowledge_id=ONE),
    ]
    for make in kept:
        await make()
    assert await driver.delete(ONE, "ada")
    assert await driver.delete_knowledge(ONE)
    for make in kept:
        assert not (await make()).repeated
    assert await driver.delete_user("ada") == 1
    assert not (await store(driver, replace(KETTLE, content="An iron kettle."))).repeated
    assert [memory.content for memory in await memories(driver)] == ["An iron kettle."]
    assert await driver.get_knowledge(ONE) is not None
