"""An update that moves a memory in time: every read shows it once, where it is now."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.memory.records import Memory, NewMemory
from app.drivers.automem import AutomemDriver
from app.errors import DriverUnavailable
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import check_latest, refuse
from tests.drivers.conftest import OpenAutomem

NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MOVES = [timedelta(hours=-300), timedelta(hours=300), timedelta(microseconds=300)]


async def fill(driver: AutomemDriver) -> list[Memory]:
    """Memories of more than two pages; each happened an hour after the one before."""
    new = [
        NewMemory(user_id="ada", content=f"kettle number {n}", occurred_at=NOON + n * HOUR)
        for n in range(450)
    ]
    return await driver.store_many(new)


async def listed(driver: AutomemDriver, limit: int = 90) -> list[Memory]:
    """Ada's memories, page by page."""
    found: list[Memory] = []
    cursor = None
    while cursor is not None or not found:
        page = await driver.list_memories("ada", cursor=cursor, limit=limit)
        found += page.memories
        cursor = page.next_cursor
    return found


async def moved(
    driver: AutomemDriver, fake: FakeAutomem, memory: Memory, to: datetime, **more: Any
) -> Memory:
    """The memory after an update after which AutoMem refuses to delete anything."""
    refuse(fake, "DELETE")
    changed = await driver.update(memory.memory_id, "ada", {"occurred_at": to, **more})
    fake.before = None
    assert changed is not None
    return changed


@pytest.mark.parametrize("move", MOVES, ids=str)
async def test_the_older_version_is_never_shown_while_it_is_there(
    open_automem: OpenAutomem, fake: FakeAutomem, move: timedelta
) -> None:
    driver = await open_automem()
    stored = await fill(driver)
    old = stored[440 if move < timedelta() else 10]
    new = await moved(driver, fake, old, old.occurred_at + move, content="kettle, moved")
    assert len(fake.graph) == 452
    expected = sorted(
        [one for one in stored if one != old] + [new],
        key=lambda one: (one.occurred_at, one.memory_id),
        reverse=True,
    )
    for replica in (driver, await open_automem()):
        for limit in (7, 90, 100):
            assert await listed(replica, limit) == expected
        for top_k in (5, 60, 100):
            assert await replica.recall("ada", top_k=top_k) == expected[:top_k]
        exported = [one async for one in replica.export_records()]
        assert len(exported) == 450
        assert new in exported
        await check_latest(replica, new)


async def test_a_second_move_shows_none_of_the_places_before(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await fill(automem)
    memory = stored[220]
    for hours in (400.5, 10.5, 430.5, 200.5):
        memory = await moved(automem, fake, memory, NOON + hours * HOUR)
        shown = [one for one in await listed(automem) if one.memory_id == memory.memory_id]
        assert shown == [memory]
        assert len(await listed(automem)) == 450
    await check_latest(automem, memory)
    tidied = await automem.update(memory.memory_id, "ada", {"tags": ["tidy"]})
    assert tidied is not None
    assert len(fake.graph) == len(fake.vectors) == 450
    await check_latest(automem, tidied)


async def test_without_failures_nothing_is_left_of_a_move(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "kettle", occurred_at=NOON)
    fake.calls.clear()
    new = await automem.update(stored.memory_id, "ada", {"occurred_at": NOON + HOUR})
    assert new is not None
    methods = [method for method, _ in fake.calls]
    assert methods == ["GET", "GET", "POST", "GET", "DELETE", "DELETE"]
    assert len(fake.graph) == len(fake.vectors) == 1
    assert [node["timestamp"] for node in fake.graph.values()] == [(NOON + HOUR).isoformat()]


@pytest.mark.parametrize("write", ["import", "import again", "delete", "delete_user"])
async def test_the_next_write_takes_all_that_a_move_left_away(
    automem: AutomemDriver, fake: FakeAutomem, write: str
) -> None:
    stored = await automem.store("ada", "kettle", occurred_at=NOON)
    new = await moved(automem, fake, stored, NOON - HOUR)
    assert len(fake.graph) == 3
    later = replace(new, content="tea", updated_at=new.updated_at + HOUR, occurred_at=NOON - HOUR)
    left = 1
    if write == "import":
        await automem.import_records([later])
        await check_latest(automem, later)
    elif write == "import again":
        await automem.import_records([new])
        await check_latest(automem, new)
    elif write == "delete":
        assert await automem.delete(stored.memory_id, "ada") is True
        left = 0
    else:
        assert await automem.delete_user("ada") == 1
        left = 0
    assert len(fake.graph) == len(fake.vectors) == left


@pytest.mark.parametrize("refused", range(3))
async def test_a_delete_that_breaks_off_brings_no_older_version_back(
    automem: AutomemDriver, fake: FakeAutomem, refused: int
) -> None:
    stored = await automem.store("ada", "kettle", occurred_at=NOON)
    new = await moved(automem, fake, stored, NOON + HOUR)
    count = 0

    async def refuse_one(request: Request) -> Response | None:
        nonlocal count
        if request.method != "DELETE":
            return None
        count += 1
        return JSONResponse({}, 500) if count > refused else None

    fake.before = refuse_one
    with pytest.raises(DriverUnavailable):
        await automem.delete(stored.memory_id, "ada")
    fake.before = None
    assert len(fake.graph) == 3 - refused
    await check_latest(automem, new)
    assert await automem.delete(stored.memory_id, "ada") is True
    assert fake.graph == {}


async def test_a_store_that_a_post_can_not_carry_keeps_a_record_and_its_places_together(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem(batch=3)
    stored = await driver.store_many(
        [NewMemory(user_id="ada", content=f"kettle {n}", occurred_at=NOON) for n in range(3)]
    )
    refuse(fake, "DELETE")
    later = [
        replace(one, occurred_at=NOON + HOUR, updated_at=one.updated_at + HOUR) for one in stored
    ]
    fake.calls.clear()
    await driver.import_records(later)
    fake.before = None
    assert [path for _, path in fake.calls].count("/memory/batch") == 3
    assert await listed(driver) == later[::-1]
