"""PostgreSQL away: at the start, and in the middle of writing."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import httpx
import psutil
import pytest

from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from tests.service.door import Door
from tests.service.service import Service, assert_problem

BATCH = 8


@dataclass(frozen=True)
class Down:
    """What a service said that was started while nobody listened at its PostgreSQL's address."""

    address: str
    output: str
    live: httpx.Response
    ready: httpx.Response
    health: httpx.Response
    requests: list[httpx.Response]


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL of our own, to be killed; it is started again when it dies."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("outage"))
    await server.open()
    yield server
    await server.close()


@pytest.fixture(scope="module")
async def door() -> AsyncIterator[Door]:
    """The way to the server, closed at first."""
    door = Door()
    yield door
    await door.close()


@pytest.fixture(scope="module")
async def unlucky(door: Door) -> AsyncIterator[Service]:
    """A service that is started while the door is closed."""
    service = Service(
        {
            "MEMORY_DRIVER": "pgvector",
            "DATABASE_URL": f"postgresql://memory:hunter2@127.0.0.1:{door.port}/memory",
            "MEMORY_MIGRATE": "true",
        }
    )
    await asyncio.to_thread(service.__enter__)
    yield service
    await asyncio.to_thread(service.stop)


@pytest.fixture(scope="module")
async def down(unlucky: Service, door: Door) -> Down:
    async with httpx.AsyncClient(base_url=unlucky.url) as client:
        requests = [
            await client.post("/v1/memories", json={"user_id": "ada", "content": "lost?"}),
            await client.post("/v1/memories/recall", json={"user_id": "ada", "query": "kettle"}),
            await client.get("/v1/memories", params={"user_id": "ada"}),
            await client.delete("/v1/users/ada/memories"),
            await client.post("/v1/knowledge/recall", json={"query": "kettle"}),
        ]
        return Down(
            address=f"127.0.0.1:{door.port}",
            output=unlucky.output,
            live=await client.get("/health/live"),
            ready=await client.get("/health/ready"),
            health=await client.get("/health"),
            requests=requests,
        )


@pytest.fixture(scope="module")
async def recovered(unlucky: Service, down: Down, door: Door, server: EmbeddedPostgres) -> Service:
    """The same service after PostgreSQL came to its address."""
    await door.open(parse_qs(urlsplit(server.dsn).query)["host"][0] + "/.s.PGSQL.5432")
    await asyncio.to_thread(unlucky.wait_recovered)
    return unlucky


async def test_started_without_postgresql_it_logs_where_it_looked_and_lives(down: Down) -> None:
    lines = [line for line in down.output.splitlines() if "driver_unavailable_at_start" in line]
    assert len(lines) == 1
    assert f"PostgreSQL at {down.address} can't be reached" in lines[0]
    assert "Traceback" not in down.output
    assert "hunter2" not in down.output
    assert down.live.status_code == 200


async def test_without_postgresql_it_is_not_ready(down: Down) -> None:
    assert_problem(down.ready, 503, "driver_unavailable")
    assert down.health.status_code == 503
    assert down.health.json()["status"] == "unavailable"


async def test_without_postgresql_requests_are_to_be_tried_again(down: Down) -> None:
    for response in down.requests:
        assert_problem(response, 503, "driver_unavailable")
        assert int(response.headers["retry-after"]) > 0
        assert "hunter2" not in response.text


async def test_it_serves_by_itself_as_soon_as_postgresql_is_there(recovered: Service) -> None:
    def store_and_recall() -> list[str]:
        recovered.store("ada", "The kettle is copper.")
        return recovered.recalled("ada", "kettle")

    assert await asyncio.to_thread(store_and_recall) == ["The kettle is copper."]


@dataclass
class Writers:
    """Concurrent stores and batches for one user, and what they were answered."""

    client: httpx.AsyncClient
    acknowledged: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    refused: list[httpx.Response] = field(default_factory=list)
    over: bool = False

    async def progress(self, count: int) -> None:
        """Wait until that many more memories are acknowledged."""
        async with asyncio.timeout(60):
            aim = len(self.acknowledged) + count
            while len(self.acknowledged) < aim:
                await asyncio.sleep(0.01)

    async def store(self) -> None:
        while not self.over:
            body = {"user_id": "eve", "content": "One jar."}
            response = await self.client.post("/v1/memories", json=body)
            if response.status_code == 201:
                self.acknowledged.append(response.json()["memory_id"])
            else:
                self.refused.append(response)

    async def store_batches(self) -> None:
        while not self.over:
            batch = f"batch {len(self.batches)}"
            self.batches.append(batch)
            memory = {"user_id": "eve", "content": "A jar of many.", "conversation_id": batch}
            body = {"memories": [memory] * BATCH}
            response = await self.client.post("/v1/memories/batch", json=body)
            if response.status_code == 201:
                self.acknowledged += [m["memory_id"] for m in response.json()["memories"]]
            else:
                self.refused.append(response)


async def test_postgresql_killed_in_the_middle_of_writing_loses_nothing_acknowledged(
    recovered: Service, server: EmbeddedPostgres
) -> None:
    async with httpx.AsyncClient(base_url=recovered.url, timeout=60) as client:
        writers = Writers(client)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(6):
                tasks.create_task(writers.store())
            for _ in range(3):
                tasks.create_task(writers.store_batches())
            for kill in (_kill_a_connection, _kill_the_server):
                await writers.progress(50)
                kill(server)
                await asyncio.sleep(0.5)
            await asyncio.to_thread(recovered.wait_recovered)
            writers.over = True
        kept = await _all_memories(client, "eve")
        health = (await client.get("/health")).json()

    assert writers.refused
    for response in writers.refused:
        assert response.status_code in (503, 504)
        assert_problem(response, response.status_code, response.json()["code"])
    ids = Counter(memory["memory_id"] for memory in kept)
    assert set(ids.values()) == {1}
    assert set(writers.acknowledged) <= set(ids)
    whole = Counter(memory["conversation_id"] for memory in kept)
    del whole[None]
    assert set(whole.values()) == {BATCH}

    facts = health["driver"]["facts"]
    assert health["status"] == "ok"
    assert facts["pool_idle"] == facts["pool_size"] <= facts["pool_max_size"]
    assert "Traceback" not in recovered.output


def _kill_a_connection(server: EmbeddedPostgres) -> None:
    """PostgreSQL then ends all other connections, recovers, and goes on."""
    busy = [
        process
        for process in psutil.Process(server.pid).children()
        if "memory memory" in " ".join(process.cmdline())
    ]
    os.kill(busy[0].pid, signal.SIGKILL)


def _kill_the_server(server: EmbeddedPostgres) -> None:
    os.kill(server.pid, signal.SIGKILL)


async def _all_memories(client: httpx.AsyncClient, user_id: str) -> list[dict[str, str]]:
    memories: list[dict[str, str]] = []
    parameters = {"user_id": user_id, "limit": "100"}
    while True:
        page = (await client.get("/v1/memories", params=parameters)).json()
        memories += page["memories"]
        if page["next_cursor"] is None:
            return memories
        parameters["cursor"] = page["next_cursor"]
