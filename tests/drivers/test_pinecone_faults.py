"""Pinecone slow, broken, gone and back; and what health says of it."""

import asyncio
from time import perf_counter
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from structlog.testing import capture_logs

from app.core.memory.records import NewMemory
from app.drivers.pinecone import PineconeDriver
from app.errors import (
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    PartlyStored,
    PoolExhausted,
)
from tests.conformance.cases import WAYS
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import KEY, FakePinecone, cut_off, slow

FAILURE = JSONResponse({"code": 13, "message": "internal", "details": []}, 500)
TOO_MANY = JSONResponse({"code": 8, "message": "rate", "details": []}, 429)
AGAIN = JSONResponse({"code": 8, "message": "rate"}, 429, headers={"retry-after": "0"})
BUSY = HTMLResponse("<h1>503 Service Temporarily Unavailable</h1>", 503)


@pytest.mark.parametrize("fault", [FAILURE, TOO_MANY, AGAIN, BUSY, cut_off()])
@pytest.mark.parametrize("path", ["/query", "/vectors/upsert", "/vectors/fetch", "/vectors/delete"])
async def test_what_may_pass_is_tried_again(
    pinecone: PineconeDriver, index: FakePinecone, path: str, fault: Any
) -> None:
    index.fail(path, fault, 2)
    memory = await pinecone.store("ada", "a kettle")
    assert await pinecone.get(memory.memory_id, "ada") == memory
    assert len(await pinecone.recall("ada", query="kettle")) == 1
    assert await pinecone.delete(memory.memory_id, "ada")
    assert not index.faults


@pytest.mark.parametrize("path", ["/vectors/upsert", "/vectors/delete"])
async def test_a_write_whose_answer_was_lost_is_made_again_and_once(
    pinecone: PineconeDriver, index: FakePinecone, path: str
) -> None:
    index.lose_answers.extend([path, path])
    memory = await pinecone.store("ada", "a kettle")
    assert await pinecone.recall("ada") == [memory]
    assert len(index.vectors("m")) == 1
    assert await pinecone.delete(memory.memory_id, "ada")
    assert not index.lose_answers
    assert index.vectors("m") == {}


async def test_a_write_that_is_lost_each_time_is_uncertain(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=1)
    index.lose_answers.extend(["/vectors/upsert"] * 4)
    with pytest.raises(ConnectionLost) as raised:
        await driver.store("ada", "a kettle")
    assert raised.value.uncertain


@pytest.mark.parametrize("way", [*WAYS, None])
async def test_no_memories_is_not_said_while_pinecone_is_away(
    open_pinecone: OpenPinecone, index: FakePinecone, way: dict[str, Any] | None
) -> None:
    driver = await open_pinecone(repeats=0)
    await driver.store("ada", "a kettle")
    index.fail("/", BUSY, 100)
    with pytest.raises(DriverUnavailable):
        await (driver.list_memories("ada") if way is None else driver.recall("ada", **way))
    for verb in (
        driver.recall_global_knowledge("kettle"),
        driver.store("ada", "another"),
        driver.delete_user("ada"),
        driver.list_users(),
    ):
        with pytest.raises(DriverUnavailable):
            await verb
    index.faults.clear()
    assert len(await driver.recall("ada")) == 1


async def test_a_slow_answer_ends_at_the_deadline_of_all_tries(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(timeout=0.5)
    await driver.store("ada", "a kettle")
    until = asyncio.Event()
    index.fail("/query", slow(until), 5)
    began = perf_counter()
    with pytest.raises(DriverTimeout):
        await driver.recall("ada", query="kettle")
    assert perf_counter() - began < 5
    until.set()
    index.faults.clear()
    assert len(await driver.recall("ada", query="kettle")) == 1


async def test_a_body_that_does_not_end_ends_at_the_deadline(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(timeout=0.5, repeats=0)

    async def endless(_: Request) -> Response:
        async def body() -> Any:
            while True:
                yield b" "
                await asyncio.sleep(0.05)

        return StreamingResponse(body())

    index.fail("/query", endless)
    with pytest.raises(DriverTimeout):
        await driver.recall("ada", query="kettle")


async def test_a_full_pool_waits_for_its_deadline_and_is_then_503(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(timeout=1.0, pool_size=2, repeats=0)
    await driver.store("ada", "a kettle")
    until = asyncio.Event()
    index.fail("/query", slow(until), 30)
    busy = [asyncio.create_task(driver.recall("ada")) for _ in range(20)]
    while len(index.faults) > 28:
        await asyncio.sleep(0.01)
    assert (await driver.health_check()).status == "ok"  # it has a connection of its own
    began = perf_counter()
    errors = await asyncio.gather(*busy, return_exceptions=True)
    assert {type(error) for error in errors} == {PoolExhausted, DriverTimeout}
    assert perf_counter() - began < 5
    until.set()
    index.faults.clear()
    assert len(await driver.recall("ada")) == 1


async def test_a_cancelled_call_leaves_no_connection_in_doubt(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(pool_size=1)
    memories = [await driver.store(f"user {n}", f"kettle {n}") for n in range(3)]
    for n in range(30):
        until = asyncio.Event()
        index.fail("/query", slow(until))
        call = asyncio.create_task(driver.recall("user 0"))
        while index.faults:
            await asyncio.sleep(0.001)
        call.cancel()
        until.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        one = n % 3
        assert await driver.recall(f"user {one}") == [memories[one]]


def many(count: int) -> list[NewMemory]:
    return [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(count)]


async def test_a_batch_of_several_requests_is_undone_where_one_fails(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(most_bytes=60_000, repeats=0)
    first = await driver.store("ada", "the first")
    count = 0

    async def third(request: Request) -> Response | None:
        nonlocal count
        body = await request.json()
        count += "-u-" in body["namespace"]
        return FAILURE if count == 3 else None

    index.fail("/vectors/upsert", third, 20)
    with pytest.raises(DriverUnavailable) as raised:
        await driver.store_many(many(30))
    assert not isinstance(raised.value, PartlyStored)
    assert count == 3
    index.faults.clear()
    assert await driver.recall("ada", top_k=100) == [first]
    assert len(index.vectors("m")) == 1


async def test_a_batch_that_can_t_be_undone_names_what_may_be_stored(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(most_bytes=60_000, repeats=0)
    count = 0

    async def second(request: Request) -> Response | None:
        nonlocal count
        count += "-u-" in (await request.json())["namespace"]
        return FAILURE if count == 2 else None

    index.fail("/vectors/upsert", second, 20)
    index.fail("/vectors/delete", FAILURE)
    with capture_logs() as logs, pytest.raises(PartlyStored) as raised:
        await driver.store_many(many(30))
    assert raised.value.uncertain
    there = {one.split("/m")[1] for one in index.vectors("m")}
    assert there
    named = str(raised.value)
    assert all(f"{one[:8]}-{one[8:12]}" in named for one in there)
    assert [entry["event"] for entry in logs if "batch" in entry["event"]] == [
        "batch_partly_stored"
    ]


async def test_a_batch_within_one_request_is_kept_whole_or_not_at_all(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=0)

    async def records(request: Request) -> Response | None:
        return FAILURE if "-u-" in (await request.json())["namespace"] else None

    index.fail("/vectors/upsert", records, 4)
    with pytest.raises(DriverUnavailable):
        await driver.store_many(many(30))
    index.faults.clear()
    assert index.vectors("m") == {}
    assert await driver.recall("ada") == []
    stored = await driver.store_many(many(30))
    uploads = [each for each in index.calls("/vectors/upsert") if "-u-" in each.body["namespace"]]
    assert len(uploads[-1].body["vectors"]) == 30
    assert await driver.recall("ada", top_k=30) == stored[::-1]


async def test_losing_and_finding_pinecone_is_logged_once_each(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=0)
    index.fail("/query", BUSY, 3)
    with capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(DriverUnavailable):
                await driver.recall("ada", query="a secret kettle")
        for _ in range(3):
            await driver.recall("ada", query="a secret kettle")
    assert [entry["event"] for entry in logs] == ["backend_away", "backend_back"]
    assert "kettle" not in str(logs)
    assert KEY not in str(logs)


async def test_health_is_told_within_seconds_and_never_raises(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=0)
    healthy = await driver.health_check()
    assert healthy.status == "ok"
    assert healthy.facts["embedding"]["dimension"] == index.dimension
    until = asyncio.Event()
    for fault, status in ((BUSY, "unavailable"), (slow(until), "unavailable")):
        index.fail("/namespaces", fault)
        began = perf_counter()
        state = await driver.health_check()
        assert (state.status, perf_counter() - began < 5) == (status, True)
        assert KEY not in str(state)
    until.set()
    assert (await driver.health_check()).status == "ok"


async def test_health_tells_that_writes_come_too_fast(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone()
    await driver.store_many(many(30))
    size = driver._reading.overlay.size
    driver = await open_pinecone(overlay_bytes=size + size // 10)
    await driver.store_many(many(30))
    state = await driver.health_check()
    assert (state.status, state.detail) == (
        "degraded",
        "writes come faster than Pinecone shows them",
    )


async def test_pinecone_killed_and_back_is_found_again(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    memory = await pinecone.store("ada", "a kettle")
    await index.kill()
    with pytest.raises(DriverUnavailable):
        await pinecone.recall("ada")
    assert (await pinecone.health_check()).status == "unavailable"
    await index.start()
    assert await pinecone.recall("ada") == [memory]
    assert (await pinecone.health_check()).status == "ok"


async def test_an_update_whose_old_parts_can_t_be_deleted_has_happened(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(repeats=0)
    text = "".join(chr(0x4E00 + n * 7_919 % 20_000) for n in range(20_000))
    memory = await driver.store("ada", text)
    index.fail("/vectors/delete", FAILURE)
    with capture_logs() as logs:
        updated = await driver.update(memory.memory_id, "ada", {"content": "short"})
    assert "leftovers_not_deleted" in [entry["event"] for entry in logs]
    assert await driver.recall("ada", query="short") != []
    assert await driver.get(memory.memory_id, "ada") == updated
    assert index.vectors("p")
    assert await driver.delete_user("ada") == 1
    index.time += 1
    assert not index.vectors("p")
    assert not index.vectors("w")
    assert not index.vectors("m")


async def test_an_error_that_is_no_outage_is_not_tried_again(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    refusal = JSONResponse({"code": 3, "message": "bad", "details": []}, 400)
    index.fail("/query", refusal, 5)
    with pytest.raises(DriverError):
        await pinecone.recall("ada", query="kettle")
    assert len(index.faults) == 4
