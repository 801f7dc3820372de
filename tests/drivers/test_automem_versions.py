"""While AutoMem has two versions of a record, every read shows the latest, and a write tidies."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.memory.clock import CLOCK
from app.core.memory.records import Memory
from app.drivers.automem import AutomemDriver
from app.errors import ConnectionLost, DriverUnavailable
from tests.conformance.cases import WAYS
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import (
    MANY,
    check_latest,
    fill,
    first,
    refuse,
    versions_shown,
)
from tests.drivers.conftest import OpenAutomem


async def updated_twice_there(
    automem: AutomemDriver, fake: FakeAutomem, stored: Memory, patch: dict[str, Any]
) -> Memory:
    """The memory after an update whose second step AutoMem refuses; AutoMem has the older first."""
    before = {**fake.graph}
    refuse(fake, "DELETE")
    changed = await automem.update(stored.memory_id, "ada", patch)
    fake.before = None
    assert len(fake.graph) == len(before) + 1
    assert changed is not None
    [older] = [one for key, one in before.items() if stored.memory_id in str(fake.graph[key])]
    older["timestamp"] = (stored.created_at + timedelta(microseconds=999)).isoformat()
    return changed


@pytest.mark.parametrize("others", [0, MANY])
@pytest.mark.parametrize("old", ["c", None])
async def test_an_older_version_that_stayed_is_never_shown(
    open_automem: OpenAutomem, fake: FakeAutomem, others: int, old: str | None
) -> None:
    automem = await open_automem()
    if others:
        await fill(automem, others)
    # The old text is the better answer to every query here, and the new one has none of its words.
    stored = await automem.store("ada", "kettle", old)
    patch = {"content": "Sunday's train", "conversation_id": "d", "metadata": {"n": 1}}
    changed = await updated_twice_there(automem, fake, stored, patch)
    for replica in (automem, await open_automem()):
        await check_latest(replica, changed)
        if old is not None:
            assert not any(await versions_shown(replica, stored.memory_id, old))
        assert any(await versions_shown(replica, stored.memory_id, "d"))


async def test_an_excluded_tag_counts_on_the_latest_version_alone(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await fill(automem)
    now_noise = await automem.store("ada", "a kettle for tea")
    was_noise = await automem.store("ada", "a kettle for two", tags=["noise"])
    await updated_twice_there(automem, fake, now_noise, {"tags": ["noise"]})
    await updated_twice_there(automem, fake, was_noise, {"tags": []})
    ways: list[dict[str, Any]] = [
        {},
        {"query": "a kettle for two"},
        {"query": "kettle for two", "use_vector": False},
    ]
    for way in ways:
        found = await automem.recall("ada", top_k=5, exclude_tags=["noise"], **way)
        ids = [memory.memory_id for memory in found]
        assert ids.count(was_noise.memory_id) == 1
        assert now_noise.memory_id not in ids


async def test_knowledge_in_two_versions_is_in_its_latest_category_alone(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store_global_knowledge("a kettle", "kitchen")
    refuse(fake, "DELETE")
    moved = await automem.update_knowledge(stored.knowledge_id, {"category": "garden"})
    fake.before = None
    assert len(fake.graph) == 2
    assert await automem.get_knowledge(stored.knowledge_id) == moved
    assert await automem.recall_global_knowledge("kettle", category="kitchen") == []
    for category in ("garden", None):
        [found] = await automem.recall_global_knowledge("kettle", category=category)
        assert found.category == "garden"
    assert await automem.delete_knowledge(stored.knowledge_id)
    assert fake.graph == {}


@pytest.mark.parametrize("write", ["update", "import", "import again", "delete", "delete_user"])
async def test_the_next_write_of_a_record_takes_its_older_versions_away(
    automem: AutomemDriver, fake: FakeAutomem, write: str
) -> None:
    stored = await automem.store("ada", "a copper kettle", "c")
    changed = await updated_twice_there(automem, fake, stored, {"content": "a teapot"})
    later = replace(changed, content="tea", updated_at=changed.updated_at + timedelta(seconds=1))
    left = 1
    if write == "update":
        await automem.update(stored.memory_id, "ada", {"content": "tea"})
    elif write == "import":
        await automem.import_records([later])
    elif write == "import again":
        await automem.import_records([changed])
    elif write == "delete":
        assert await automem.delete(stored.memory_id, "ada") is True
        left = 0
    else:
        assert await automem.delete_user("ada") == 1
        left = 0
    assert len(fake.graph) == len(fake.vectors) == left


async def test_a_delete_that_fails_in_the_middle_brings_no_older_version_back(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    [older] = fake.graph
    changed = await updated_twice_there(automem, fake, stored, {"content": "tea"})

    async def refuse_the_older(request: Request) -> Response | None:
        refused = request.method == "DELETE" and request.url.path.endswith(older)
        return JSONResponse({}, 500) if refused else None

    for delete in (automem.delete(stored.memory_id, "ada"), automem.delete_user("ada")):
        fake.before = refuse_the_older
        with pytest.raises(DriverUnavailable):
            await delete
        fake.before = None
        await check_latest(automem, changed)


async def test_versions_on_different_pages_are_one_record(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    # All of one millisecond: AutoMem's own ids order them, so that the versions lie anywhere.
    (_, moment), ids = CLOCK.new_id(), [CLOCK.new_id()[0] for _ in range(450)]
    stored = [
        Memory(memory_id=one, user_id="ada", content=f"kettle number {n}", created_at=moment)
        for n, one in enumerate(ids)
    ]
    await automem.import_records(stored)
    refuse(fake, "DELETE")
    for n in range(0, 450, 30):
        await automem.update(ids[n], "ada", {"metadata": {"n": n}})
    fake.before = None
    for node in fake.graph.values():
        node["timestamp"] = moment.isoformat()
    exported = [one async for one in automem.export_records()]
    read: list[list[Any]] = [exported]
    listed: list[Memory] = []
    cursor: str | None = None
    while not listed or cursor is not None:
        page = await automem.list_memories("ada", None, cursor, 90)
        listed += page.memories
        cursor = page.next_cursor
    assert listed == sorted(listed, key=lambda one: one.memory_id, reverse=True)
    read.append(listed)
    for some in read:
        assert {one.memory_id: one.metadata for one in some} == {
            one.memory_id: {} if n % 30 else {"n": n} for n, one in enumerate(stored)
        }
        assert len(some) == 450
    newest = await automem.recall("ada", top_k=100)
    assert newest == listed[:100]
    for way in WAYS[1:]:
        found = await automem.recall("ada", top_k=100, **way)
        assert len({one.memory_id for one in found}) == 100
        latest = {one.memory_id: one.metadata for one in listed}
        assert all(one.metadata == latest[one.memory_id] for one in found)


async def test_a_service_that_dies_between_the_two_steps_has_updated(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem()
    stored = await automem.store("ada", "a copper kettle", "c")
    fake.before = gate = first("DELETE")
    dying = asyncio.create_task(
        automem.update(stored.memory_id, "ada", {"content": "tea", "conversation_id": "d"})
    )
    await gate.reached.wait()
    dying.cancel()
    await asyncio.wait([dying])
    fake.before = None
    for replica in (automem, await open_automem()):
        found = await replica.get(stored.memory_id, "ada")
        assert found is not None
        assert found.content == "tea"
        await check_latest(replica, found)
        assert not any(await versions_shown(replica, stored.memory_id, "c"))


@pytest.mark.parametrize("is_lost", [True, False])
async def test_an_update_without_an_answer_is_made_once(
    automem: AutomemDriver, fake: FakeAutomem, is_lost: bool
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    fake.calls.clear()
    failed = False

    async def fail_once(request: Request) -> Response | None:
        nonlocal failed
        if request.method != "POST" or failed:
            return None
        failed = True
        fake.lose_answers = int(is_lost)
        return None if is_lost else JSONResponse({}, 503)

    fake.before = fail_once
    changed = await automem.update(stored.memory_id, "ada", {"content": "tea"})
    assert changed is not None
    # The older version, which is there under the same id, does not count as arrived.
    assert [method for method, _ in fake.calls].count("POST") == (1 if is_lost else 2)
    assert len(fake.graph) == 1
    await check_latest(automem, changed)


async def test_an_update_that_nobody_can_tell_of_is_shown_if_it_happened(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(retries=0)
    stored = await automem.store("ada", "a copper kettle", "c")
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
        await automem.update(stored.memory_id, "ada", {"content": "tea", "conversation_id": "d"})
    fake.before = None
    found = await automem.get(stored.memory_id, "ada")
    assert found is not None
    assert found.content == "tea"
    await check_latest(automem, found)
    assert not any(await versions_shown(automem, stored.memory_id, "c"))
    await automem.update(stored.memory_id, "ada", {"content": "coffee"})
    assert len(fake.graph) == 1


async def test_a_delete_of_the_older_version_whose_answer_is_lost_is_repeated(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "a copper kettle")

    async def lose_first(request: Request) -> Response | None:
        if request.method == "DELETE":
            fake.before = None
            fake.lose_answers = 1
        return None

    fake.before = lose_first
    changed = await automem.update(stored.memory_id, "ada", {"content": "tea"})
    assert changed is not None
    assert len(fake.graph) == 1
    await check_latest(automem, changed)


async def test_a_vector_of_an_older_version_leads_to_the_latest(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem()
    await fill(automem)
    stored = await automem.store("ada", "kettle", "c")

    async def miss(request: Request) -> Response | None:
        fake.lose_vector_calls = int(request.method == "DELETE")
        return None

    fake.before = miss
    changed = await automem.update(
        stored.memory_id, "ada", {"content": "Sunday's train", "conversation_id": "d"}
    )
    fake.before = None
    assert changed is not None
    assert len(fake.vectors) == len(fake.graph) + 1
    for replica in (automem, await open_automem()):
        await check_latest(replica, changed)
        assert not any(await versions_shown(replica, stored.memory_id, "c"))
