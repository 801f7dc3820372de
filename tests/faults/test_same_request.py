"""Every request is sent again, while services and PostgreSQL are killed: one record each."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.faults.load import CLIENTS, WRITES, settled
from tests.faults.server import Server, rows
from tests.faults.setting import two
from tests.service.service import Service


class Requests:
    """Stores with keys, each sent twice at once, and again until it is answered."""

    def __init__(self) -> None:
        self.left = set(range(WRITES))
        self.ids: dict[int, set[str]] = {}
        """By request, the ids that answers told."""
        self.over = False

    async def send(self, service: Service) -> None:
        """Send what has no answer, and once more what has one, until the service is gone."""
        due = sorted([*range(WRITES), *self.left])
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(
                httpx.AsyncClient(base_url=service.url, timeout=60)
            )
            async with asyncio.TaskGroup() as tasks:
                for n in range(CLIENTS):
                    tasks.create_task(self._client(client, due[n::CLIENTS]))

    async def progress(self, count: int) -> None:
        """Wait until that many more were answered."""
        aim = len(self.left) - count
        async with asyncio.timeout(240):
            while len(self.left) > max(aim, 0):
                await asyncio.sleep(0.005)

    async def _client(self, client: httpx.AsyncClient, due: list[int]) -> None:
        for n in due:
            if self.over:
                return
            try:
                await self._store(client, n)
            except httpx.TransportError:
                await asyncio.sleep(0.02)

    async def _store(self, client: httpx.AsyncClient, n: int) -> None:
        body = {"user_id": f"user {n % 7}", "content": f"Jar {n}."}
        headers = {"Idempotency-Key": f"request-{n}"}
        answer = await client.post("/v1/memories", json=body, headers=headers)
        if answer.status_code in (200, 201):
            self.ids.setdefault(n, set()).add(answer.json()["memory_id"])
            self.left.discard(n)
        else:
            assert answer.status_code in (503, 504), answer.text
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("kind", ["replicated", "failover"])
async def test_requests_that_are_sent_again_after_kills_make_one_record_each(
    first: Server, second: Server, tmp_path: Path, kind: str
) -> None:
    writes = {"MEMORY_DRIVERS__MAIN__WRITES": "journal"} if kind == "failover" else {}
    setting = await two(kind, first, second, MEMORY_JOURNAL_PATH=str(tmp_path), **writes)
    requests = Requests()
    for _ in range(2):
        async with setting.services() as [service]:
            running = asyncio.create_task(requests.send(service))
            await requests.progress(WRITES // 4)
            service.process.send_signal(signal.SIGKILL)
            requests.over = True
            await running
            requests.over = False
    async with setting.services() as [service]:
        running = asyncio.create_task(requests.send(service))
        await requests.progress(WRITES // 4)
        first.kill()
        await running
        async with asyncio.timeout(120):
            while requests.left:
                await requests.send(service)
        await settled(service)
        assert "Traceback" not in service.output
    kept = await rows(setting.first)
    assert Counter(content for _, content in kept.values()) == Counter(
        f"Jar {n}." for n in range(WRITES)
    )
    assert all(ids == {one} for ids in requests.ids.values() for one in ids)
    assert {one for ids in requests.ids.values() for one in ids} == set(kept)
    if kind == "replicated":
        assert await rows(setting.second) == kept
