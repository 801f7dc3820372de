"""PostgreSQL and the service killed with SIGKILL in the middle of many concurrent writes.

After each: every acknowledged write is found, exactly once, no deleted record is back, and all
databases are equal.
"""

import asyncio
import signal
from pathlib import Path

import httpx
import pytest

from tests.faults.load import CLIENTS, WRITES, Load, pending, settled
from tests.faults.server import Server, rows
from tests.faults.setting import two
from tests.storm import times

SOON = {"MEMORY_DRIVERS__MAIN__TIMEOUT": str(times(1, 3))}
"""For tests that wait for leases to end: these are four times as long."""


async def test_replicated_survives_its_primary_and_then_its_replica(
    first: Server, second: Server, tmp_path: Path
) -> None:
    setting = await two("replicated", first, second, MEMORY_JOURNAL_PATH=str(tmp_path))
    async with setting.services() as [service]:
        load = Load()
        running = asyncio.create_task(load.run([service]))
        await load.progress(WRITES // 4)
        first.kill()
        await load.progress(WRITES // 4)
        second.kill(away=True)
        await running
        lag = await pending(service)
        second.back()
        await settled(service)
        assert lag["second"]["count"] > 0
        assert "Traceback" not in service.output
    await setting.check_equal(load)


@pytest.mark.parametrize("journal", ["file", "shared"])
async def test_replicated_delivers_what_a_killed_service_left(
    first: Server, second: Server, third: Server, tmp_path: Path, journal: str
) -> None:
    shared = journal == "shared"
    where = {"MEMORY_JOURNAL_URL": await third.database()} if shared else {}
    setting = await two(
        "replicated", first, second, MEMORY_JOURNAL_PATH=str(tmp_path), **where, **SOON
    )
    load = Load()
    async with setting.services(2 if shared else 1) as services:
        second.kill(away=True)
        running = asyncio.create_task(load.run(services))
        await load.progress(2 * WRITES // 3)
        services[0].process.send_signal(signal.SIGKILL)
        await asyncio.sleep(0.1)
        load.over = not shared
        await running
        if shared:
            assert await pending(services[1])
            second.back()
            await settled(services[1])
    if not shared:
        async with setting.services() as [again]:
            assert (await pending(again))["second"]["count"] > 0
            second.back()
            await settled(again)
    await setting.check_equal(load)


async def test_the_service_killed_again_and_again(
    first: Server, second: Server, tmp_path: Path
) -> None:
    setting = await two("replicated", first, second, MEMORY_JOURNAL_PATH=str(tmp_path))
    load = Load()
    for _ in range(2 if WRITES < 1_000 else 6):
        async with setting.services() as [service]:
            running = asyncio.create_task(load.run([service]))
            await load.progress(load.random.randrange(10, 60))
            service.process.send_signal(signal.SIGKILL)
            load.over = True
            await running
            load.over = False
    async with setting.services() as [service]:
        await settled(service)
    await setting.check_equal(load)


async def test_failover_accepts_writes_while_its_primary_is_away(
    first: Server, second: Server, tmp_path: Path
) -> None:
    setting = await two(
        "failover",
        first,
        second,
        MEMORY_JOURNAL_PATH=str(tmp_path),
        MEMORY_DRIVERS__MAIN__WRITES="journal",
    )
    load = Load()
    async with (
        setting.services() as [service],
        httpx.AsyncClient(base_url=service.url, timeout=60) as client,
    ):
        running = asyncio.create_task(load.run([service]))
        await load.progress(WRITES // 3)
        first.kill(away=True)
        await load.progress(WRITES // 6)
        new = {"user_id": "grace", "content": "A jar of plums."}
        stored = await client.post("/v1/memories", json=new)
        gone = await client.post("/v1/memories", json=new)
        path = f"/v1/memories/{gone.json()['memory_id']}?user_id=grace"
        assert (await client.delete(path)).status_code == 204
        recalled = await client.post("/v1/memories/recall", json={"user_id": "grace", "query": "?"})
        await running
        assert (await pending(service))["first"]["count"] > 0
        first.back()
        await settled(service)
        again = await client.post("/v1/memories/recall", json={"user_id": "grace", "query": "?"})
        assert "Traceback" not in service.output
    assert stored.status_code == gone.status_code == 201
    assert recalled.json()["degraded"]
    assert recalled.json()["driver"] == "second"
    for answer in (recalled, again):
        found = [memory["memory_id"] for memory in answer.json()["memories"]]
        assert found == [stored.json()["memory_id"]]
    assert not load.refused
    kept = await rows(setting.first)
    assert kept.pop(found[0]) == ("grace", "A jar of plums.")
    load.check(kept)


async def test_without_its_journal_replicated_refuses_writes_and_reads_on(
    first: Server, second: Server, third: Server
) -> None:
    url = await third.database()
    setting = await two(
        "replicated", first, second, MEMORY_JOURNAL_URL=url, MEMORY_JOURNAL_TIMEOUT="2", **SOON
    )
    load = Load()
    async with (
        setting.services(2) as services,
        httpx.AsyncClient(base_url=services[0].url, timeout=60) as client,
    ):
        running = asyncio.create_task(load.run(services))
        await load.progress(WRITES // 3)
        third.kill(away=True)
        await load.progress(2 * CLIENTS)
        refused = await client.post("/v1/memories", json={"user_id": "eve", "content": "Lost."})
        recalled = await client.post("/v1/memories/recall", json={"user_id": "user 1"})
        third.back()
        await running
        await settled(services[1])
        for service in services:
            assert "Traceback" not in service.output
    assert refused.status_code == 503
    assert refused.json()["code"] == "journal_unavailable"
    assert recalled.status_code == 200
    assert {r.json()["code"] for r in load.refused} <= {"journal_unavailable", "connection_lost"}
    await setting.check_equal(load)
