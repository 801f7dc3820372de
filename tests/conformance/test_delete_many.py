"""Memories are deleted by conversation, filter and age: those that all of it holds for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.core.memory.deleting import PIECE
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewMemory
from app.errors import InvalidInput
from tests.conformance.cases import WAYS
from tests.conformance.expiring import until_expired


async def stored(driver: RecordDriver, user_id: str = "ada") -> list[Memory]:
    """Six memories of two conversations, with tags and metadata."""
    return await driver.store_many(
        [
            NewMemory(
                user_id=user_id,
                content=f"kettle {n}",
                conversation_id="b" if n % 2 else "a",
                tags=["odd" if n % 2 else "even"],
                metadata={"n": n},
            )
            for n in range(6)
        ]
    )


async def left(driver: RecordDriver, user_id: str = "ada") -> list[str]:
    """The ids of what every kind of read still finds, which is the same."""
    page = await driver.list_memories(user_id, limit=100)
    ids = [memory.memory_id for memory in page.memories]
    for arguments in WAYS:
        found = await driver.recall(user_id, top_k=100, **arguments)
        assert {memory.memory_id for memory in found} == set(ids)
    return sorted(ids)


def ids_of(memories: list[Memory]) -> list[str]:
    return sorted(memory.memory_id for memory in memories)


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        ({"conversation_id": "a"}, (0, 2, 4)),
        ({"filter": {"tags": {"any": ["odd"]}}}, (1, 3, 5)),
        ({"filter": {"metadata": {"n": {"gte": 4}}}}, (4, 5)),
        ({"conversation_id": "a", "filter": {"metadata": {"n": {"lt": 3}}}}, (0, 2)),
        ({"conversation_id": "c"}, ()),
        ({"filter": {"tags": {"any": ["ODD"]}}}, ()),
    ],
)
async def test_what_all_of_it_holds_for_is_deleted_and_nothing_else(
    driver: RecordDriver, arguments: dict[str, Any], gone: tuple[int, ...]
) -> None:
    memories = await stored(driver)
    others = await stored(driver, "bob")
    rest = [memory for n, memory in enumerate(memories) if n not in gone]
    assert await driver.delete_many("ada", **arguments, dry_run=True) == len(gone)
    assert await left(driver) == ids_of(memories)
    assert await driver.delete_many("ada", **arguments) == len(gone)
    assert await left(driver) == ids_of(rest)
    assert await driver.delete_many("ada", **arguments) == 0
    for n in gone:
        assert await driver.get(memories[n].memory_id, "ada") is None
    assert await left(driver, "bob") == ids_of(others)


async def test_before_is_the_moment_of_creation_and_not_inside(driver: RecordDriver) -> None:
    now = datetime.now(UTC)
    early = await driver.store("ada", "an early kettle", occurred_at=now + timedelta(days=9))
    late = early
    while late.created_at == early.created_at:  # the clock counts milliseconds
        await driver.delete(late.memory_id, "ada") if late is not early else None
        late = await driver.store("ada", "a late kettle", occurred_at=now - timedelta(days=9))
    before = early.created_at
    assert await driver.delete_many("ada", before=before) == 0
    assert await driver.delete_many("ada", before=late.created_at) == 1
    assert await left(driver) == [late.memory_id]
    later = {"created": {"from": late.created_at.isoformat()}}
    assert await driver.delete_many("ada", before=late.created_at, filter=later) == 0
    hours = timedelta(hours=1)
    until = {"created": {"to": late.created_at.isoformat()}}
    assert await driver.delete_many("ada", before=late.created_at + hours, filter=until) == 0
    assert await driver.delete_many("ada", before=late.created_at + hours) == 1


async def test_more_than_a_piece_is_deleted_and_counted(driver: RecordDriver) -> None:
    count = PIECE + 5
    batch = [
        NewMemory(user_id="ada", content="kettle", conversation_id="b" if n % 50 == 0 else "a")
        for n in range(count)
    ]
    memories = await driver.store_many(batch)
    of_b = memories[::50]
    assert await driver.delete_many("ada", "a", dry_run=True) == count - len(of_b)
    assert await driver.delete_many("ada", "a") == count - len(of_b)
    page = await driver.list_memories("ada", limit=100)
    assert ids_of(page.memories) == ids_of(of_b)


async def test_what_has_expired_is_not_counted(driver: RecordDriver) -> None:
    kept = await driver.store("ada", "kettle", "a")
    await driver.store("ada", "kettle", "a", ttl=0.001)
    await until_expired(driver, "ada", 1)
    assert await driver.delete_many("ada", "a", dry_run=True) == 1
    assert await driver.delete_many("ada", "a") == 1
    assert await driver.get(kept.memory_id, "ada") is None


@pytest.mark.parametrize("given", [{}, {"filter": {}}, {"filter": {"tags": {"all": []}}}])
async def test_to_delete_everything_is_refused(driver: RecordDriver, given: Any) -> None:
    memory = await driver.store("ada", "kettle")
    for dry_run in (True, False):
        with pytest.raises(InvalidInput, match="forget"):
            await driver.delete_many("ada", **given, dry_run=dry_run)
    assert await left(driver) == [memory.memory_id]


async def test_what_is_no_filter_and_no_moment_is_refused(driver: RecordDriver) -> None:
    await driver.store("ada", "kettle")
    bad: list[dict[str, Any]] = [
        {"filter": {"tag": "a"}},
        {"conversation_id": ""},
        {"before": "yesterday"},
        {"before": 3},
    ]
    for given in bad:
        with pytest.raises(InvalidInput):
            await driver.delete_many("ada", **given)
    with pytest.raises(InvalidInput):
        await driver.delete_many("", "a")
    assert len(await left(driver)) == 1
