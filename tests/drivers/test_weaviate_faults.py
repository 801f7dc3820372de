"""A Weaviate that is slow, cut off, killed and back, and what a write is then."""

import asyncio
from time import perf_counter

import pytest
from starlette.responses import JSONResponse, Response
from structlog.testing import capture_logs

from app.core.memory.records import NewKnowledge, NewMemory
from app.drivers.weaviate import WeaviateDriver
from app.errors import (
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PartlyStored,
    PoolExhausted,
)
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import FakeWeaviate, hang

__all__ = ["open_weaviate", "server", "weaviate"]

BATCH = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(6)]


def count(server: FakeWeaviate) -> int:
    return len(server.of("Memory").objects)


async def test_a_store_whose_answer_was_lost_is_made_once(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    server.lose_answers = 1
    stored = await weaviate.store("ada", "a copper kettle")
    assert server.calls == ["BatchObjects", "Search"]
    assert await weaviate.recall("ada") == [stored]
    server.lose_answers = 1
    assert len(await weaviate.store_many(BATCH)) == 6
    assert len(await weaviate.recall("ada", top_k=10)) == 7


@pytest.mark.parametrize("kept", [0, 1, 4])
async def test_a_batch_that_was_cut_off_leaves_nothing(
    weaviate: WeaviateDriver, server: FakeWeaviate, kept: int
) -> None:
    server.cut_after = kept
    with pytest.raises(ConnectionLost):
        await weaviate.store_many(BATCH)
    assert await weaviate.recall("ada") == []
    assert count(server) == 0
    assert (await weaviate.list_users()).users == []


async def test_a_batch_of_several_calls_is_undone_as_a_whole(
    weaviate: WeaviateDriver, server: FakeWeaviate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.weaviate.database._AT_ONCE", 2)
    calls = 0

    async def refuse_the_third(call: str) -> Response | None:
        nonlocal calls
        calls += call == "BatchObjects"
        refused = call == "BatchObjects" and calls == 3
        return JSONResponse({"code": "unavailable"}, 503) if refused else None

    server.before = refuse_the_third
    with pytest.raises(DriverUnavailable) as raised:
        await weaviate.store_many(BATCH)
    assert not raised.value.uncertain
    assert calls == 3
    assert count(server) == 0


async def test_what_can_not_be_undone_is_told(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    async def away_then(call: str) -> Response | None:
        return JSONResponse({}, 503) if call == "Search" else None

    server.before = away_then
    server.cut_after = 3
    with pytest.raises(PartlyStored) as raised:
        await weaviate.store_many(BATCH)
    assert raised.value.uncertain
    assert count(server) == 3


async def test_one_object_that_is_refused_undoes_the_batch(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Weaviate looks at each object by itself, and keeps the others."""

    async def no_room(call: str) -> Response | None:
        if call == "BatchObjects":
            server.before = None
            server.refuse_at = 2
        return None

    server.before = no_room
    with pytest.raises(DriverError):
        await weaviate.store_many(BATCH)
    assert count(server) == 0
    batch = [NewKnowledge(content=f"kettle {n}", category="c") for n in range(4)]
    server.refuse_at = 1
    with pytest.raises(DriverError):
        await weaviate.store_knowledge_many(batch)
    assert not server.of("Knowledge").objects


async def test_an_import_that_was_cut_off_is_finished_by_the_same_again(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    records = await weaviate.store_many(BATCH)
    await weaviate.delete_user("ada")
    server.cut_after = 2
    with pytest.raises(MemoryServiceError) as raised:
        await weaviate.import_records(records)
    assert raised.value.uncertain
    await weaviate.import_records(records)
    assert await weaviate.recall("ada") == records[::-1]
    assert len(await weaviate.recall("ada")) == 6


async def test_an_import_of_which_an_object_is_refused_may_have_kept_the_others(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    records = await weaviate.store_many(BATCH)
    await weaviate.delete_user("ada")
    server.refuse_at = 2
    with pytest.raises(PartlyStored):
        await weaviate.import_records(records)
    await weaviate.import_records(records)
    assert len(await weaviate.recall("ada")) == 6


async def test_a_record_that_can_not_be_read_is_an_error_of_ours(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    await weaviate.store("ada", "kettle")
    [one] = server.of("Memory").objects.values()
    for text in ("", "secret", "[]", "{}", '{"memory_id": "secret"}'):
        one.values["record"] = text
        for query in (None, "kettle"):
            with pytest.raises(DriverError) as raised:
                await weaviate.recall("ada", query=query)
            assert "secret" not in f"{raised.value} {raised.value.reason}"


async def test_a_weaviate_that_hangs_costs_the_time_limit(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    driver = await open_weaviate(timeout=0.3)
    await driver.store("ada", "kettle")
    server.before = hang
    began = perf_counter()
    with pytest.raises(DriverTimeout):
        await driver.recall("ada")
    with pytest.raises(MemoryServiceError) as raised:
        await driver.store("ada", "late")
    assert raised.value.uncertain
    assert perf_counter() - began < 3
    health = await driver.health_check()
    assert health.status == "unavailable"
    server.before = None
    assert len(await driver.recall("ada")) == 1


async def test_a_full_pool_waits_for_its_deadline_and_is_busy_then(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    driver = await open_weaviate(timeout=0.4, pool_size=2)
    await driver.store("ada", "kettle")
    slow = asyncio.Event()

    async def wait(call: str) -> Response | None:
        if call == "Search":
            await slow.wait()
        return None

    server.before = wait
    calls = [asyncio.create_task(driver.recall("ada")) for _ in range(2)]
    while server.under_way < 2:
        await asyncio.sleep(0.005)
    began = perf_counter()
    # Those before give up first, and leave their connections to these.
    waiting = [asyncio.create_task(driver.recall("ada")) for _ in range(4)]
    found = await asyncio.gather(*calls, *waiting, return_exceptions=True)
    assert perf_counter() - began >= 0.3
    assert all(isinstance(one, (DriverTimeout, PoolExhausted)) for one in found)
    assert any(isinstance(one, PoolExhausted) for one in found)
    assert (await driver.health_check()).status == "ok"  # it has a connection of its own
    slow.set()
    assert len(await driver.recall("ada")) == 1


async def test_cancelled_calls_leave_no_connection_in_doubt(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    """What one user's call did not read is never another's answer."""
    driver = await open_weaviate(pool_size=3)
    users = [f"user {n}" for n in range(9)]
    await driver.store_many([NewMemory(user_id=user, content=user) for user in users])

    async def slow(_: str) -> Response | None:
        await asyncio.sleep(0.003)
        return None

    server.before = slow
    for n in range(60):
        calls = [asyncio.create_task(driver.recall(user)) for user in users]
        await asyncio.sleep(0.001 * (n % 7))
        for place, call in enumerate(calls):
            if (place + n) % 3:
                call.cancel()
        for user, found in zip(
            users, await asyncio.gather(*calls, return_exceptions=True), strict=True
        ):
            if not isinstance(found, BaseException):
                assert [memory.content for memory in found] == [user]
    most = 0

    async def together(_: str) -> Response | None:
        nonlocal most
        most = max(most, server.under_way)
        await asyncio.sleep(0.05)
        return None

    server.before = together
    await asyncio.gather(*(driver.recall(user) for user in users))
    assert most == 3  # no slot was lost


async def test_a_weaviate_that_is_killed_is_unavailable_and_found_again(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    stored = await weaviate.store("ada", "kettle")
    await server.kill()
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(DriverUnavailable):
                await weaviate.store("ada", "lost")
        health = await weaviate.health_check()
        assert health.status == "unavailable"
        await server.start()
        for _ in range(3):
            assert await weaviate.recall("ada") == [stored]
    assert [entry["event"] for entry in logs] == ["backend_away", "backend_back"]
    assert "kettle" not in str(logs)
    assert "hunter2" not in str(logs)
    assert (await weaviate.health_check()).status == "ok"


async def test_nothing_acknowledged_is_lost_by_a_kill(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    """Stores, updates and deletes by six writers, a server that dies under them, and is back."""
    kept: dict[str, str] = {}
    deleted: set[str] = set()
    unsure: set[str] = set()

    async def write(writer: int) -> None:
        for n in range(200):
            what = f"{writer} {n}"
            try:
                memory = await weaviate.store(f"user {writer}", what)
                kept[memory.memory_id] = what
                unsure.add(memory.memory_id)
                if n % 3 == 1:
                    patch = {"content": f"{what} again"}
                    await weaviate.update(memory.memory_id, memory.user_id, patch)
                    kept[memory.memory_id] = f"{what} again"
                elif n % 3 == 2:
                    assert await weaviate.delete(memory.memory_id, memory.user_id)
                    deleted.add(memory.memory_id)
                unsure.discard(memory.memory_id)
            except MemoryServiceError:
                return

    writers = [asyncio.create_task(write(n)) for n in range(6)]
    while len(kept) < 40:
        await asyncio.sleep(0.005)
    await server.kill()
    await asyncio.gather(*writers)
    await server.start()
    found = {m.memory_id: m.content async for m in weaviate.export_records()}  # type: ignore[union-attr]  # memories alone were stored
    sure = {one: what for one, what in kept.items() if one not in deleted | unsure}
    assert len(sure) > 10
    assert sure.items() <= found.items()
    assert not deleted & found.keys()
