"""The cached driver, whichever way it keeps answers."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.records import NewMemory, Recalled
from app.errors import ConnectionLost, DriverUnavailable
from app.settings import CacheSettings, Limits
from app.wrappers.cache.freshness import Freshness, freshness
from app.wrappers.cached import CachedDriver, new_store
from tests.wrappers.backend import Backend
from tests.wrappers.conftest import NewCached, Where

SAME_MOMENT_ANOTHER_DAY = datetime.fromisoformat("2026-05-09T01:00:00+09:00")


def was_cached(found: Sequence[object]) -> bool:
    assert isinstance(found, Recalled)
    return found.cached


async def recall_as(wanted: Freshness, driver: BaseMemoryDriver, user_id: str) -> list[Any]:
    token = freshness.set(wanted)
    try:
        return await driver.recall(user_id)
    finally:
        freshness.reset(token)


async def test_the_second_answer_is_the_first_and_says_that_it_is_cached(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    await driver.store("ada", "kettle", tags=["a"], metadata={"n": [1.5, None, "ü"]})
    await driver.store_global_knowledge("kettles boil", "kitchen")
    for ask in (
        lambda: driver.recall("ada"),
        lambda: driver.recall("ada", query="kettle", top_k=3, exclude_tags=["b"]),
        lambda: driver.recall_global_knowledge("kettle"),
    ):
        first, second = await ask(), await ask()
        assert first
        assert list(first) == list(second)
        assert [was_cached(first), was_cached(second)] == [False, True]
        assert isinstance(second, Recalled)
        assert second.driver == "backend"
    assert backend.asked == 3
    facts = (await driver.health_check()).facts
    assert (facts["hits"], facts["misses"]) == (3, 3)


async def test_other_arguments_are_another_question(cached: NewCached) -> None:
    driver = cached()
    asked: list[dict[str, Any]] = [
        {"user_id": "ada"},
        {"user_id": "ada", "query": "kettle"},
        {"user_id": "ada", "query": "kettle", "use_vector": False},
        {"user_id": "ada", "query": "kettle", "top_k": 1},
        {"user_id": "ada", "query": "kettle", "conversation_id": "kettle"},
        {"user_id": "ada", "query": "kettle", "exclude_tags": ["kettle"]},
        {"user_id": "bob", "query": "kettle"},
        {"user_id": "ada", "query": "kettle", "as_of": datetime(2026, 5, 8, 16, tzinfo=UTC)},
        {"user_id": "ada", "query": "kettle", "as_of": datetime(2026, 5, 9, 16, tzinfo=UTC)},
        {"user_id": "ada", "query": "kettle", "as_of": SAME_MOMENT_ANOTHER_DAY},
    ]
    for arguments in asked:
        assert not was_cached(await driver.recall(**arguments)), arguments
    for arguments in asked:
        assert was_cached(await driver.recall(**arguments)), arguments


async def test_hostile_user_ids_never_share_answers(cached: NewCached) -> None:
    driver = cached()
    users = [
        "ada", "Ada", "ada ", " ada", "ad", "*", "ada*", "all", "knowledge", "user:ada", "ada:user",
        'ada","query":"x', "ada\\", "ada\n", "a" * 200, "é", "e\u0301", "\U0001f600", "null", "[]",
    ]  # fmt: skip
    for user in users:
        await driver.store(user, f"of {user!r}")
    for _ in range(2):
        for user in users:
            assert [memory.user_id for memory in await driver.recall(user)] == [user]
    # Two halves of a character, which JSON writes as the whole one.
    with pytest.raises(ValueError, match="user_id"):
        await driver.recall("\ud83d\ude00")


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("store", {"user_id": "ada", "content": "new"}),
        ("store_many", {"memories": [NewMemory(user_id="ada", content="new")]}),
        ("delete_user", {"user_id": "ada"}),
    ],
)
async def test_a_write_is_seen_at_once_and_leaves_others_answers(
    cached: NewCached, verb: str, arguments: dict[str, Any]
) -> None:
    driver = cached()
    await driver.store("ada", "old")
    await driver.store("bob", "his")
    for user in ("ada", "bob"):
        await driver.recall(user)
    await driver.recall_global_knowledge("kettle")
    await getattr(driver, verb)(**arguments)
    after = await driver.recall("ada")
    assert {memory.content for memory in after} == (
        set() if verb == "delete_user" else {"old", "new"}
    )
    assert not was_cached(after)
    assert was_cached(await driver.recall("ada"))
    assert was_cached(await driver.recall("bob"))
    assert was_cached(await driver.recall_global_knowledge("kettle"))


async def test_deletes_with_and_without_a_user_are_seen_at_once(cached: NewCached) -> None:
    driver = cached()
    first, second = await driver.store("ada", "one"), await driver.store("ada", "two")
    assert len(await driver.recall("ada")) == 2
    assert await driver.delete(first.memory_id, "ada")
    assert len(await driver.recall("ada")) == 1
    assert await driver.delete(second.memory_id)
    assert await driver.recall("ada") == []


async def test_imported_records_are_seen_at_once(cached: NewCached) -> None:
    driver, source = cached(), Backend()
    memory = await source.store("ada", "kettle")
    knowledge = await source.store_global_knowledge("kettles boil", "kitchen")
    await driver.recall("ada")
    await driver.recall_global_knowledge("kettle")
    await driver.import_records([memory, knowledge])
    assert len(await driver.recall("ada")) == 1
    assert len(await driver.recall_global_knowledge("kettle")) == 1


async def test_knowledge_writes_are_seen_at_once_and_leave_users_answers(
    cached: NewCached,
) -> None:
    driver = cached()
    await driver.recall("ada")
    await driver.recall_global_knowledge("kettle")
    stored = await driver.store_global_knowledge("kettles boil", "kitchen")
    assert len(await driver.recall_global_knowledge("kettle")) == 1
    assert await driver.delete_knowledge(stored.knowledge_id)
    assert await driver.recall_global_knowledge("kettle") == []
    assert was_cached(await driver.recall("ada"))


async def test_no_answer_is_older_than_any_write_before_it(
    cached: NewCached, where: Where, backend: Backend
) -> None:
    backend.before = backend.after = backend.dawdle
    drivers = [cached(), cached()] if where == "redis" else [cached()]
    stored: set[str] = set()
    deleted: set[str] = set()
    hits = 0

    async def write(n: int) -> None:
        chance = random.Random(n)
        own: list[str] = []
        for _ in range(12):
            driver = chance.choice(drivers)
            if own and chance.random() < 0.4:
                memory_id = own.pop()
                stored.discard(memory_id)
                await driver.delete(memory_id, "ada" if chance.random() < 0.8 else None)
                deleted.add(memory_id)
            else:
                memory = await driver.store("ada", "kettle")
                own.append(memory.memory_id)
                stored.add(memory.memory_id)
            await look(chance.choice(drivers))
            await asyncio.sleep(chance.choice((0, 0.03)))

    async def look(driver: CachedDriver) -> None:
        nonlocal hits
        wanted, gone = set(stored), set(deleted)
        found = await driver.recall("ada", top_k=100)
        ids = {memory.memory_id for memory in found}
        # What was deleted meanwhile may be missing: `stored` lost it before the delete began.
        assert wanted & stored <= ids
        assert not gone & ids
        hits += was_cached(found)

    async def read() -> None:
        while not done.is_set():
            await look(random.choice(drivers))
            await asyncio.sleep(0.001)

    done = asyncio.Event()
    readers = [asyncio.create_task(read()) for _ in range(6)]
    await asyncio.gather(*(write(n) for n in range(4)))
    await asyncio.sleep(0.1)
    done.set()
    await asyncio.gather(*readers)
    assert hits > 10


async def test_an_answer_computed_before_a_write_is_not_found_after_it(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    go_on = asyncio.Event()
    computed = asyncio.Event()

    async def late() -> None:
        computed.set()
        await go_on.wait()

    backend.after = late
    old = asyncio.create_task(driver.recall("ada"))
    await computed.wait()
    backend.after = backend.dawdle
    await driver.store("ada", "kettle")
    assert len(await driver.recall("ada")) == 1  # does not wait for the old computation either
    go_on.set()
    assert await old == []
    assert len(await driver.recall("ada")) == 1


async def test_while_a_write_runs_nothing_is_served_from_the_cache(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    await driver.recall("ada")
    finish, begun = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        begun.set()
        await finish.wait()

    backend.after = hold
    writes = [asyncio.create_task(driver.store("ada", "one"))]
    await begun.wait()
    backend.after = backend.dawdle
    await driver.store("ada", "two")
    for _ in range(2):
        assert not was_cached(await driver.recall("ada"))
    finish.set()
    await asyncio.gather(*writes)
    assert len(await driver.recall("ada")) == 2
    assert was_cached(await driver.recall("ada"))


@pytest.mark.parametrize("how", ["cancelled", "uncertain", "refused"])
async def test_a_write_that_may_still_happen_keeps_answers_out_for_a_while(
    cached: NewCached, backend: Backend, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("in_process", "redis"):
        monkeypatch.setattr(f"app.wrappers.cache.{module}.UNCERTAIN_SECONDS", 0.6)
    driver = cached()
    begun = asyncio.Event()

    async def fail() -> None:
        begun.set()
        if how == "cancelled":
            await asyncio.sleep(60)
        raise ConnectionLost if how == "uncertain" else DriverUnavailable

    backend.before = fail
    write = asyncio.create_task(driver.store("ada", "kettle"))
    await begun.wait()
    if how == "cancelled":
        write.cancel()
    with pytest.raises((asyncio.CancelledError, DriverUnavailable)):
        await write
    backend.before = backend.dawdle
    await driver.recall("ada")
    assert was_cached(await driver.recall("ada")) == (how == "refused")
    await asyncio.sleep(0.7)
    await driver.recall("ada")
    assert was_cached(await driver.recall("ada"))


async def test_concurrent_misses_are_computed_once(cached: NewCached, backend: Backend) -> None:
    driver = cached()
    await driver.store("ada", "kettle")
    backend.before = lambda: asyncio.sleep(0.2)
    found = await asyncio.gather(*(driver.recall("ada") for _ in range(20)))
    assert backend.asked == 1
    assert all(len(each) == 1 for each in found)
    assert len({id(each[0]) for each in found}) == 20


async def test_a_cancelled_first_caller_does_not_fail_the_others(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    await driver.store("ada", "kettle")
    backend.before = lambda: asyncio.sleep(0.3)
    callers = [asyncio.create_task(driver.recall("ada")) for _ in range(3)]
    await asyncio.sleep(0.15)
    callers[0].cancel()
    assert [len(found) for found in await asyncio.gather(*callers[1:])] == [1, 1]
    assert backend.asked == 1
    with pytest.raises(asyncio.CancelledError):
        await callers[0]


async def test_a_computation_that_nobody_waits_for_is_cancelled(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    ended: list[str] = []

    async def hold() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    backend.before = hold
    callers = [asyncio.create_task(driver.recall("ada")) for _ in range(3)]
    await asyncio.sleep(0.15)
    for caller in callers:
        caller.cancel()
    await asyncio.gather(*callers, return_exceptions=True)
    await asyncio.sleep(0.05)
    assert ended == ["cancelled"]


async def test_an_error_reaches_every_caller_and_is_not_kept(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()

    async def fail() -> None:
        await asyncio.sleep(0.2)
        raise DriverUnavailable

    backend.before = fail
    found = await asyncio.gather(*(driver.recall("ada") for _ in range(3)), return_exceptions=True)
    assert [type(each) for each in found] == [DriverUnavailable] * 3
    assert backend.asked == 1
    backend.before = backend.dawdle
    assert not was_cached(await driver.recall("ada"))


async def test_a_degraded_answer_is_not_kept(cached: NewCached, backend: Backend) -> None:
    driver = cached()
    backend.degraded = True
    for _ in range(2):
        found = await driver.recall("ada")
        assert isinstance(found, Recalled)
        assert found.degraded
        assert not found.cached


async def test_what_a_caller_does_to_its_answer_others_do_not_see(cached: NewCached) -> None:
    driver = cached()
    await driver.store("ada", "kettle", tags=["a"], metadata={"deep": {"n": 1}})
    for _ in range(3):
        found = await driver.recall("ada")
        assert found[0].tags == ["a"]
        assert found[0].metadata == {"deep": {"n": 1}}
        found[0].tags.append("b")
        found[0].metadata["deep"]["n"] = 2
        found.clear()


async def test_an_answer_is_forgotten_when_it_is_too_old(cached: NewCached) -> None:
    driver = cached(ttl=0.5)
    await driver.recall("ada")
    assert was_cached(await driver.recall("ada"))
    await asyncio.sleep(0.6)
    assert not was_cached(await driver.recall("ada"))


async def test_a_request_can_ask_for_a_fresh_answer(cached: NewCached, backend: Backend) -> None:
    driver = cached()
    await driver.recall("ada")
    await backend.store("ada", "written by another")
    assert await driver.recall("ada") == []
    assert len(await recall_as("unkept", driver, "ada")) == 1
    assert await driver.recall("ada") == []
    assert len(await recall_as("fresh", driver, "ada")) == 1
    found = await driver.recall("ada")
    assert len(found) == 1
    assert was_cached(found)


async def test_in_process_the_size_is_bounded(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.wrappers.cache.in_process.MEGABYTES", 1)
    driver = CachedDriver(backend, new_store(CacheSettings()), "test", Limits())
    for n in range(50):
        await driver.store(f"user {n}", "x" * 30_000)
        await driver.recall(f"user {n}")
        assert (await driver.health_check()).facts["megabytes"] <= 1
    assert was_cached(await driver.recall("user 49"))
    assert not was_cached(await driver.recall("user 0"))


async def test_an_answer_too_large_to_be_worth_it_is_not_kept(
    cached: NewCached, backend: Backend
) -> None:
    driver = cached()
    await driver.store_many([NewMemory(user_id="ada", content="x" * 30_000)] * 40)
    for _ in range(2):
        found = await driver.recall("ada", top_k=40)
        assert len(found) == 40
        assert not was_cached(found)


async def test_arguments_that_are_no_json_are_left_to_the_driver(cached: NewCached) -> None:
    driver = cached()
    with pytest.raises(ValueError, match="top_k"):
        await driver.recall("ada", top_k=True)
    await driver.recall("ada", top_k=1)
    with pytest.raises(ValueError, match="top_k"):
        await driver.recall("ada", top_k=True)
    with pytest.raises(ValueError, match="user_id"):
        await driver.recall(object())  # type: ignore[arg-type]  # what a caller may get wrong
