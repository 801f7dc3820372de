"""From the moment at which a record expires nobody finds it, changes it or counts it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewKnowledge, NewMemory, Record
from app.errors import InvalidInput
from tests.clocks import let_pass
from tests.conformance.cases import WAYS
from tests.wrappers.held import until

TTL = 1_000.0
FAR = datetime(2100, 1, 2, 3, 4, 5, 678_901, UTC)


def expiry(record: Record | None) -> datetime:
    """When the record expires, which it does."""
    assert record is not None
    assert record.expires_at is not None
    return record.expires_at


async def reads_of_memories(driver: RecordDriver) -> list[list[str]]:
    """The ids that every read of several memories of ada gives, each in the order of the ids."""
    found = [await driver.recall("ada", top_k=100, **arguments) for arguments in WAYS]
    found.append(await driver.recall("ada", "kitchen", "kettle", top_k=100))
    found.append((await driver.list_memories("ada")).memories)
    found.append((await driver.list_memories("ada", "kitchen")).memories)
    found.append([r async for r in driver.export_records() if isinstance(r, Memory)])
    return [sorted(memory.memory_id for memory in memories) for memories in found]


async def reads_of_knowledge(driver: RecordDriver) -> list[list[str]]:
    found = [await driver.recall_global_knowledge("kettle", 100)]
    found.append(await driver.recall_global_knowledge("kettle", 100, "kitchen"))
    found.append(await driver.recall_global_knowledge("kettle", 100, doc_id="kettles"))
    found.append([r async for r in driver.export_records() if isinstance(r, Knowledge)])
    return [sorted(record.knowledge_id for record in records) for records in found]


async def test_an_expired_memory_is_gone_from_every_read(driver: RecordDriver) -> None:
    short = await driver.store("ada", "kettle", "kitchen", ttl=TTL)
    stays = await driver.store("ada", "kettle", "kitchen")
    for _ in range(3):  # a user who is recalled stays in memory, and answers are kept
        both = sorted([short.memory_id, stays.memory_id])
        assert await reads_of_memories(driver) == [both] * 7
    let_pass(driver, expiry(short))
    for _ in range(2):
        assert await reads_of_memories(driver) == [[stays.memory_id]] * 7
    assert await driver.get(short.memory_id, "ada") is None
    assert await driver.owner_of(short.memory_id) is None
    assert await driver.get(stays.memory_id, "ada") == stays


async def test_expired_knowledge_is_gone_from_every_read(driver: RecordDriver) -> None:
    arguments = ("kettle", "kitchen", None, "kettles")
    short = await driver.store_global_knowledge(*arguments, ttl=TTL)
    stays = await driver.store_global_knowledge(*arguments)
    for _ in range(2):
        both = sorted([short.knowledge_id, stays.knowledge_id])
        assert await reads_of_knowledge(driver) == [both] * 4
    let_pass(driver, expiry(short))
    for _ in range(2):
        assert await reads_of_knowledge(driver) == [[stays.knowledge_id]] * 4
    assert await driver.get_knowledge(short.knowledge_id) is None
    assert await driver.get_knowledge(stays.knowledge_id) == stays


async def test_an_expired_record_can_be_neither_changed_nor_deleted_nor_counted(
    driver: RecordDriver,
) -> None:
    memories = [await driver.store("ada", f"kettle {n}", ttl=TTL) for n in range(3)]
    stays = await driver.store("ada", "kettle")
    known = [await driver.store_global_knowledge("kettle", "kitchen", ttl=TTL) for _ in range(2)]
    every: list[Record] = [*memories, *known]
    let_pass(driver, max(map(expiry, every)))
    for patch in ({"expires_at": None}, {"content": "tea"}):
        assert await driver.update(memories[0].memory_id, "ada", patch) is None
        assert await driver.update_knowledge(known[0].knowledge_id, patch) is None
    assert await driver.delete(memories[0].memory_id, "ada") is False
    assert await driver.delete(memories[1].memory_id) is False
    assert await driver.delete_knowledge(known[0].knowledge_id) is False
    assert await driver.delete_knowledge(known[1].knowledge_id) is False
    assert await driver.recall("ada") == [stays]
    assert await driver.delete_user("ada") == 1
    assert await driver.recall("ada") == []


async def test_the_time_to_live_counts_from_the_store(driver: RecordDriver) -> None:
    memory = await driver.store("ada", "kettle", ttl=0.02)
    assert expiry(memory) == memory.created_at + timedelta(seconds=0.02)
    knowledge = await driver.store_global_knowledge("kettle", "kitchen", ttl=0.02)

    async def gone() -> bool:
        memories = await driver.recall("ada", query="kettle")
        return not memories and not await driver.recall_global_knowledge("kettle")

    await until(gone)
    assert await driver.get(memory.memory_id, "ada") is None
    assert await driver.get_knowledge(knowledge.knowledge_id) is None


async def test_when_a_record_expires_comes_back_in_utc_from_every_read(
    driver: RecordDriver,
) -> None:
    east = FAR.astimezone(timezone(timedelta(hours=9)))
    memory = await driver.store("ada", "kettle", expires_at=east)
    batch = await driver.store_many(
        [
            NewMemory(user_id="bob", content="kettle", expires_at=FAR.replace(tzinfo=None)),
            NewMemory(user_id="bob", content="kettle"),
        ]
    )
    assert [one.expires_at for one in batch] == [FAR, None]
    known = await driver.store_knowledge_many(
        [NewKnowledge(content="kettle", category="kitchen", expires_at=east)]
    )
    exported = {r.content: r async for r in driver.export_records() if isinstance(r, Knowledge)}
    found: list[Record | None] = [
        memory,
        await driver.get(memory.memory_id, "ada"),
        *await driver.recall("ada"),
        *await driver.recall("ada", query="kettle"),
        *(await driver.list_memories("ada")).memories,
        *known,
        await driver.get_knowledge(known[0].knowledge_id),
        *await driver.recall_global_knowledge("kettle"),
        *exported.values(),
    ]
    assert len(found) == 9
    for record in found:
        assert expiry(record) == FAR
        assert expiry(record).utcoffset() == timedelta()


async def test_an_update_sets_moves_and_takes_away_the_expiry(driver: RecordDriver) -> None:
    memory = await driver.store("ada", "kettle")
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    for patch, expected in (
        ({"expires_at": FAR}, FAR),
        ({"expires_at": None}, None),
        ({"expires_at": FAR + timedelta(days=1)}, FAR + timedelta(days=1)),
        ({"ttl": None}, None),
    ):
        updated = await driver.update(memory.memory_id, "ada", patch)
        assert updated is not None
        assert updated.expires_at == expected
        assert await driver.get(memory.memory_id, "ada") == updated
        changed = await driver.update_knowledge(knowledge.knowledge_id, patch)
        assert changed is not None
        assert changed.expires_at == expected
        assert await driver.get_knowledge(knowledge.knowledge_id) == changed
    before = datetime.now(UTC)
    updated = await driver.update(memory.memory_id, "ada", {"ttl": TTL})
    assert expiry(updated) - before == pytest.approx(
        timedelta(seconds=TTL), abs=timedelta(seconds=60)
    )
    let_pass(driver, expiry(updated))
    for arguments in WAYS:
        assert await driver.recall("ada", **arguments) == []
    assert await driver.get_knowledge(knowledge.knowledge_id) == changed


async def test_a_longer_expiry_outlives_the_first(driver: RecordDriver) -> None:
    memory = await driver.store("ada", "kettle", ttl=TTL)
    knowledge = await driver.store_global_knowledge("kettle", "kitchen", ttl=TTL)
    for _ in range(2):
        await driver.recall("ada", query="kettle")
    await driver.update(memory.memory_id, "ada", {"ttl": 2 * TTL})
    await driver.update_knowledge(knowledge.knowledge_id, {"expires_at": None})
    let_pass(driver, expiry(memory) + timedelta(seconds=1))
    for arguments in WAYS:
        assert len(await driver.recall("ada", **arguments)) == 1
    assert len(await driver.recall_global_knowledge("kettle")) == 1


REFUSED: list[tuple[dict[str, Any], str]] = [
    *(({"ttl": ttl}, "ttl") for ttl in (0, -1, float("nan"), float("inf"), 1e12, True, "60")),
    ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "expires_at"),
    ({"expires_at": datetime(9999, 12, 31, tzinfo=UTC)}, "expires_at"),
    ({"expires_at": 1}, "expires_at"),
    ({"expires_at": FAR, "ttl": 60}, "ttl"),
]


async def test_an_expiry_that_is_none_is_refused_and_nothing_is_stored(
    driver: RecordDriver, subtests: pytest.Subtests
) -> None:
    memory = await driver.store("ada", "kettle")
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    for arguments, field in REFUSED:
        with subtests.test(arguments=arguments):
            new = [NewMemory(user_id="ada", content="x"), NewMemory(user_id="ada", content="x")]
            new[1] = replace(new[1], **arguments)
            for refused, place in (
                (driver.store("ada", "x", **arguments), (field,)),
                (driver.store_many(new), ("memories", 1, field)),
                (driver.store_global_knowledge("x", "kitchen", **arguments), (field,)),
                (driver.update(memory.memory_id, "ada", arguments), (field,)),
                (driver.update_knowledge(knowledge.knowledge_id, arguments), (field,)),
            ):
                with pytest.raises(InvalidInput) as refusal:
                    await refused
                assert refusal.value.loc == place
    assert (await driver.list_memories("ada")).memories == [memory]
    assert [record async for record in driver.export_records()] in (
        [memory, knowledge],
        [knowledge, memory],
    )


async def test_an_import_brings_the_expiry_and_what_has_expired_is_not_found(
    driver: RecordDriver,
) -> None:
    memory = await driver.store("ada", "kettle")
    lasting = replace(memory, user_id="bob", expires_at=FAR)
    expired = replace(memory, user_id="eve", expires_at=memory.created_at)
    await driver.import_records([lasting, expired])
    assert await driver.recall("bob") == [lasting]
    assert await driver.recall("eve") == []
    assert (await driver.list_memories("eve")).memories == []


async def test_expired_memories_do_not_use_up_the_limit(driver: RecordDriver) -> None:
    short = [
        NewMemory(user_id="ada", content="kettle", conversation_id="kitchen", ttl=TTL)
        for _ in range(15)
    ]
    stored = await driver.store_many(short)
    await driver.store_many([replace(one, ttl=None) for one in short[:10]])
    await driver.store_many(short)
    let_pass(driver, expiry(stored[-1]) + timedelta(seconds=60))
    for arguments in WAYS:
        assert len(await driver.recall("ada", top_k=10, **arguments)) == 10
    page = await driver.list_memories("ada", limit=10)
    assert len(page.memories) == 10
    assert page.next_cursor is None
