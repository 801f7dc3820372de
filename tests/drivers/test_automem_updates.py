"""An update on AutoMem, which has none: the new version is stored, then the older is deleted."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from app.core.memory.clock import CLOCK
from app.core.memory.records import Memory
from app.core.memory.requests import Forget
from app.drivers.automem import AutomemDriver
from app.errors import CapabilityMissing, PartlyStored, PreconditionFailed
from tests.conformance.cases import WAYS
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import check_latest, fill, first, versions_shown
from tests.drivers.conftest import OpenAutomem

CHANGES: list[dict[str, Any]] = [
    {"content": "a steel teapot"},
    {"tags": ["other"]},
    {"metadata": {"n": 1}},
    {"conversation_id": "d"},
]


@pytest.mark.parametrize("patch", CHANGES, ids=lambda patch: next(iter(patch)))
async def test_an_update_leaves_one_version_which_every_read_shows(
    automem: AutomemDriver, fake: FakeAutomem, patch: dict[str, Any]
) -> None:
    stored = await automem.store("ada", "a copper kettle", "c", ["x"])
    changed = await automem.update(stored.memory_id, "ada", patch)
    assert changed is not None
    assert changed == replace(stored, **patch, updated_at=changed.updated_at)
    assert changed.updated_at > stored.updated_at
    assert len(fake.graph) == len(fake.vectors) == 1
    await check_latest(automem, changed)


async def test_a_memory_moves_between_conversations(automem: AutomemDriver) -> None:
    stored = await automem.store("ada", "a copper kettle", "c")
    for conversation_id in ("d", None, "c"):
        moved = await automem.update(stored.memory_id, "ada", {"conversation_id": conversation_id})
        assert moved is not None
        for other in {"c", "d"} - {conversation_id}:
            assert not any(await versions_shown(automem, stored.memory_id, other))
        if conversation_id is not None:
            shown = await versions_shown(automem, stored.memory_id, conversation_id)
            assert any(shown)
        await check_latest(automem, moved)


async def test_knowledge_moves_between_categories(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store_global_knowledge("a copper kettle", "kitchen", title="Care")
    moved = await automem.update_knowledge(
        stored.knowledge_id, {"category": "garden", "title": None}
    )
    assert moved is not None
    assert await automem.get_knowledge(stored.knowledge_id) == moved
    assert await automem.recall_global_knowledge("kettle", category="kitchen") == []
    [found] = await automem.recall_global_knowledge("kettle", category="garden")
    assert (found.title, found.updated_at) == (None, moved.updated_at)
    assert len(fake.graph) == 1


async def test_updates_change_no_order_of_time(automem: AutomemDriver) -> None:
    ids = [memory.memory_id for memory in await fill(automem)]
    for n in (0, 7, 29, 7):
        await automem.update(ids[n], "ada", {"content": f"changed {n}"})
    newest_first = ids[::-1]
    assert [one.memory_id for one in await automem.recall("ada", top_k=30)] == newest_first
    page = await automem.list_memories("ada", limit=20)
    rest = await automem.list_memories("ada", cursor=page.next_cursor, limit=20)
    assert [one.memory_id for one in [*page.memories, *rest.memories]] == newest_first


async def test_an_update_is_found_by_its_new_words_before_automem_embedded_it(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    some = await fill(automem)
    fake.embeds_batches = False
    await automem.update(some[3].memory_id, "ada", {"content": "Медный чайник"})
    assert fake.unembedded
    for _ in range(2):
        [found] = await automem.recall("ada", query="Медный чайник", top_k=1)
        assert found.memory_id == some[3].memory_id
        await fake.catch_up()


async def test_an_import_keeps_the_latest_version_in_any_order(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    one = await automem.store("ada", "a copper kettle", "c")
    versions = [
        replace(one, content=f"version {n}", updated_at=one.updated_at + timedelta(seconds=n))
        for n in range(5)
    ]
    missing = await automem.store("ada", "a teapot")
    await automem.delete(missing.memory_id, "ada")
    await automem.import_records([versions[2], missing, versions[3], versions[1]])
    await check_latest(automem, versions[3])
    await check_latest(automem, missing)
    for late in (versions[1], versions[3], replace(versions[3], content="the same version")):
        await automem.import_records([late])
        await check_latest(automem, versions[3])
    await automem.import_records([versions[4]])
    await check_latest(automem, versions[4])
    assert len(fake.graph) == 2


async def test_a_record_of_another_user_takes_the_place_of_none(automem: AutomemDriver) -> None:
    hers = await automem.store("ada", "a copper kettle")
    his = replace(hers, user_id="bob", updated_at=hers.updated_at + timedelta(seconds=1))
    await automem.import_records([his])
    assert await automem.get(hers.memory_id, "ada") == hers
    assert await automem.get(hers.memory_id, "bob") == his
    for way in WAYS:
        [found] = await automem.recall("ada", **way)
        assert found.updated_at == hers.updated_at
    changed = await automem.update(hers.memory_id, "ada", {"content": "tea"})
    assert changed is not None
    assert await automem.get(hers.memory_id, "ada") == changed
    assert await automem.get(hers.memory_id, "bob") == his


async def test_an_import_that_fails_in_the_middle_loses_nothing(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await fill(automem, 520)
    later = [
        replace(one, content="changed", updated_at=one.updated_at + timedelta(seconds=1))
        for one in stored
    ]
    posts = 0

    async def fail_later(request: Request) -> Response | None:
        nonlocal posts
        posts += request.method == "POST"
        return JSONResponse({}, 400) if posts == 2 and request.method == "POST" else None

    fake.before = fail_later
    with pytest.raises(PartlyStored, match="first 500 of 520"):
        await automem.import_records(later)
    found = {
        one.memory_id: one async for one in automem.export_records() if isinstance(one, Memory)
    }
    assert [found[one.memory_id] for one in stored] == [*later[:500], *stored[500:]]
    fake.before = None
    await automem.import_records(later)
    assert len(fake.graph) == 520
    assert {one.content async for one in automem.export_records()} == {"changed"}


async def test_a_wrong_precondition_changes_nothing(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    other = stored.updated_at + timedelta(microseconds=1)
    with pytest.raises(PreconditionFailed):
        await automem.update(stored.memory_id, "ada", {"content": "tea"}, if_match=[other])
    assert await automem.update(stored.memory_id, "bob", {"content": "tea"}) is None
    await check_latest(automem, stored)
    changed = await automem.update(
        stored.memory_id, "ada", {"content": "tea"}, if_match=[stored.updated_at]
    )
    assert changed is not None
    await check_latest(automem, changed)


async def test_a_memory_of_another_client_cannot_be_updated(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(legacy_tag="user:{user_id}", legacy_writable=True)
    theirs = fake.add("a steel kettle", ["user:ada"])
    before = dict(fake.graph)
    found = await automem.get(theirs, "ada")
    assert found is not None
    fake.calls.clear()
    with pytest.raises(CapabilityMissing, match="Another client"):
        await automem.update(theirs, "ada", {"content": "a copper kettle"})
    assert len(fake.calls) == 4  # as its page says
    assert await automem.update(theirs, "bob", {"content": "a copper kettle"}) is None
    assert fake.graph == before
    assert {method for method, _ in fake.calls} == {"GET"}
    assert await automem.get(theirs, "ada") == found


async def test_updates_through_one_service_lose_none_of_each_other(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    changes = [{"metadata": {f"key {n}": n}} for n in range(8)]
    await asyncio.gather(*(automem.update(stored.memory_id, "ada", change) for change in changes))
    changed = await automem.get(stored.memory_id, "ada")
    assert changed is not None
    assert changed.metadata == {f"key {n}": n for n in range(8)}
    assert len(fake.graph) == 1


@pytest.mark.parametrize("all_of_the_user", [False, True])
async def test_what_a_service_updates_and_deletes_at_once_is_gone(
    automem: AutomemDriver, fake: FakeAutomem, all_of_the_user: bool
) -> None:
    stored = await automem.store("ada", "a copper kettle")
    fake.before = gate = first("POST")
    update = asyncio.create_task(automem.update(stored.memory_id, "ada", {"content": "tea"}))
    await gate.reached.wait()
    if all_of_the_user:
        delete = asyncio.ensure_future(automem.delete_user("ada"))
    else:
        delete = asyncio.ensure_future(automem.delete(stored.memory_id, "ada"))
    await asyncio.sleep(0.1)
    gate.open.set()
    assert await delete == 1
    await update
    assert fake.graph == {}


async def test_a_forget_reaches_what_was_created_up_to_its_moment(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    old = await fill(automem, 250)
    before = CLOCK.end_of_now()
    new = await fill(automem, 250)
    changed = await automem.update(old[7].memory_id, "ada", {"content": "changed since"})
    assert changed is not None
    assert changed.updated_at > before
    removed = 0

    async def delete_newer_ones(request: Request) -> Response | None:
        nonlocal removed
        if request.method == "DELETE" and removed == 0:
            removed = 100  # other services, which move the rest up between two pages
            for memory_id in sorted(fake.graph, key=lambda one: fake.graph[one]["timestamp"])[
                -100:
            ]:
                del fake.graph[memory_id]
        return None

    fake.before = delete_newer_ones
    assert await automem._forget(Forget("ada", before)) == 250
    fake.before = None
    assert removed == 100
    left = {one.memory_id async for one in automem.export_records() if isinstance(one, Memory)}
    assert left == {one.memory_id for one in new[:150]}
    assert await automem._forget(Forget("ada", before)) == 0
