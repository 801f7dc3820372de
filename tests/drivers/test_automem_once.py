"""One record for one request on AutoMem, which makes its own ids and compares nothing."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.memory.records import Memory, NewMemory
from app.drivers.automem import AutomemDriver
from app.errors import Conflict, ConnectionLost, DriverUnavailable
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import check_latest, first
from tests.drivers.conftest import OpenAutomem

ONE = "00000000-0000-4000-8000-0000000000a1"


async def store(driver: AutomemDriver, content: str = "A copper kettle.") -> Memory:
    return await driver.store("ada", content, memory_id=ONE)


def batch(content: str, numbers: Sequence[int]) -> list[NewMemory]:
    """Memories of Ada under ids of their numbers."""
    return [
        NewMemory(user_id="ada", content=content, memory_id=f"{ONE[:-4]}{n:04x}") for n in numbers
    ]


async def test_a_store_under_an_id_costs_three_calls_and_a_repeat_one(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await store(automem)
    assert [method for method, _ in fake.calls] == ["GET", "POST", "GET"]
    fake.calls.clear()
    assert (await store(automem)).repeated
    assert [method for method, _ in fake.calls] == ["GET"]
    fake.calls.clear()
    await automem.store_many(batch("A kettle.", range(120)))
    assert [method for method, _ in fake.calls] == ["GET", "GET", "POST", "GET", "GET"]


async def test_services_that_store_at_the_same_moment_end_with_one_record(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    here, there = await open_automem(), await open_automem()
    fake.before = gate = first("POST")
    early = asyncio.create_task(store(here))
    await gate.reached.wait()
    later = await store(there)
    gate.open.set()
    answer = await early
    # The one that was created later is the record, and who sees that says so.
    assert (answer, answer.repeated) == (later, True)
    assert len(fake.graph) == len(fake.vectors) == 1
    await check_latest(here, later)
    await check_latest(there, later)


async def test_services_that_store_something_else_at_the_same_moment_end_with_one_record(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    here, there = await open_automem(), await open_automem()
    fake.before = gate = first("POST")
    early = asyncio.create_task(store(here, "A pan."))
    await gate.reached.wait()
    later = await store(there)
    gate.open.set()
    with pytest.raises(Conflict, match=ONE):
        await early
    assert len(fake.graph) == 1
    await check_latest(here, later)


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_store_without_an_answer_is_made_once(
    automem: AutomemDriver, fake: FakeAutomem, is_lost: bool
) -> None:
    failed = False

    async def fail_once(request: Request) -> Response | None:
        nonlocal failed
        if request.method != "POST" or failed:
            return None
        failed = True
        fake.lose_answers = int(is_lost)
        return None if is_lost else JSONResponse({}, 503)

    fake.before = fail_once
    stored = await store(automem)
    assert len(fake.graph) == 1
    assert await store(automem) == stored


async def test_a_repeat_finds_what_nobody_could_tell_of(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(retries=0)
    away = False

    async def go_away(request: Request) -> Response | None:
        nonlocal away
        if away:
            return JSONResponse({}, 503)
        away = request.method == "POST"
        fake.lose_answers = int(away)
        return None

    fake.before = go_away
    with pytest.raises(ConnectionLost):
        await store(automem)
    fake.before = None
    assert (await store(automem)).repeated
    assert len(fake.graph) == 1


async def test_a_batch_that_breaks_off_takes_back_what_it_stored_and_nothing_else(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(batch=2, retries=0)
    [there] = await automem.store_many(batch("A kettle.", [1]))
    posts = 0

    async def fail_later(request: Request) -> Response | None:
        nonlocal posts
        posts += request.method == "POST"
        return JSONResponse({}, 503) if posts == 2 and request.method == "POST" else None

    fake.before = fail_later
    with pytest.raises(DriverUnavailable):
        await automem.store_many(batch("A kettle.", range(5)))
    fake.before = None
    assert (await automem.list_memories("ada")).memories == [there]
    stored = await automem.store_many(batch("A kettle.", range(5)))
    assert [memory.repeated for memory in stored] == [False, True, False, False, False]
    assert len(fake.graph) == 5


async def test_the_id_of_another_clients_memory_is_taken(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    theirs = fake.add("a kettle of theirs", ["user:ada"])
    automem = await open_automem(legacy_tag="user:{user_id}")
    with pytest.raises(Conflict, match=theirs):
        await automem.store("ada", "a kettle of ours", memory_id=theirs)
    mine = await automem.store("bob", "a kettle of ours", memory_id=theirs)
    assert await automem.get(theirs, "bob") == mine
    assert len(fake.graph) == 2
