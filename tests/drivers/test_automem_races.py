"""What one service updates while others read, update or delete it: AutoMem compares nothing."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.core.memory.records import Memory
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import check_latest, fill, first, versions_shown
from tests.drivers.conftest import OpenAutomem


async def test_an_update_that_another_service_overtook_is_made_on_top_of_that(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    slow, quick = await open_automem(), await open_automem()
    stored = await slow.store("ada", "a copper kettle", "c")
    fake.before = gate = first("POST")
    update = asyncio.create_task(
        slow.update(stored.memory_id, "ada", {"metadata": {"slow": 1}, "conversation_id": "d"})
    )
    await gate.reached.wait()
    await asyncio.sleep(0.01)  # so that the other's version is the later one
    await quick.update(stored.memory_id, "ada", {"metadata": {"quick": 1}})
    gate.open.set()
    changed = await update
    assert changed is not None
    assert changed.metadata == {"slow": 1, "quick": 1}
    assert len(fake.graph) == 1
    await check_latest(quick, changed)


async def test_of_updates_by_two_services_at_once_the_later_version_stays(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    early, late = await open_automem(), await open_automem()
    stored = await early.store("ada", "a copper kettle", "c")
    gates = [first("POST"), first("POST")]
    waiting = list(gates)

    async def hold(request: Request) -> Response | None:
        return await waiting.pop(0)(request) if request.method == "POST" else None

    fake.before = hold
    tasks = []
    for driver, conversation_id in ((early, "d"), (late, "e")):
        patch = {"conversation_id": conversation_id}
        tasks.append(asyncio.create_task(driver.update(stored.memory_id, "ada", patch)))
        await gates[len(tasks) - 1].reached.wait()
        await asyncio.sleep(0.01)
    for gate, task in zip(gates, tasks, strict=True):
        gate.open.set()
        await task
    changed = await tasks[1]
    assert changed is not None
    assert len(fake.graph) == 1
    await check_latest(early, changed)
    for conversation_id in ("c", "d"):
        assert not any(await versions_shown(early, stored.memory_id, conversation_id))


@pytest.mark.parametrize("all_of_the_user", [False, True])
async def test_a_delete_finds_the_version_that_another_service_puts_in_the_place(
    open_automem: OpenAutomem, fake: FakeAutomem, all_of_the_user: bool
) -> None:
    deleting, updating = await open_automem(), await open_automem()
    stored = await deleting.store("ada", "a copper kettle")
    fake.before = gate = first("DELETE")
    if all_of_the_user:
        delete = asyncio.ensure_future(deleting.delete_user("ada"))
    else:
        delete = asyncio.ensure_future(deleting.delete(stored.memory_id, "ada"))
    await gate.reached.wait()
    assert await updating.update(stored.memory_id, "ada", {"content": "tea"}) is not None
    gate.open.set()
    assert await delete == 1
    assert fake.graph == {}


@pytest.mark.parametrize("deleted", [1, 5, 120])
async def test_no_reader_misses_a_memory_while_others_are_updated_and_deleted(
    open_automem: OpenAutomem, fake: FakeAutomem, deleted: int
) -> None:
    reading, writing = await open_automem(), await open_automem()
    stored = await fill(reading, 600)
    newest_first = stored[::-1]
    pages = 0

    async def write_between_pages(request: Request) -> Response | None:
        nonlocal pages
        pages += request.method == "GET"
        if pages == 2 and request.method == "GET":
            fake.before = None
            for one in newest_first[:deleted]:
                await writing.delete(one.memory_id, "ada")
            for one in newest_first[195:205]:  # at the end of the page that was read
                await writing.update(one.memory_id, "ada", {"tags": ["changed"]})
        return None

    fake.before = write_between_pages
    records = [one async for one in reading.export_records()]
    found = [one.memory_id for one in records if isinstance(one, Memory)]
    assert len(found) == len(set(found))
    assert {one.memory_id for one in newest_first[deleted:]} <= set(found)
