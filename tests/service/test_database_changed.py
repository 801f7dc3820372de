"""A database that changes under the running service: it says so, and goes on when it can."""

import time
from collections.abc import Iterator

import asyncpg
import httpx
import pytest

from app.drivers.pgvector import migrations
from app.embedding import Embedder
from tests.conftest import NewDatabase
from tests.drivers.test_pgvector_changed import emptied
from tests.service.service import Service, assert_problem

TOLD_SECONDS = 5.0


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
def service(url: str) -> Iterator[Service]:
    with Service({"MEMORY_DRIVER": "pgvector", "DATABASE_URL": url}) as service:
        yield service


def recall(client: httpx.Client) -> httpx.Response:
    asked = {"user_id": "ada", "query": "kettle"}
    return client.post("/v1/memories/recall", json=asked)


def wait_for(client: httpx.Client, status: int, answer: str) -> None:
    """Probe until /health/ready and /health say that."""
    deadline = time.monotonic() + TOLD_SECONDS
    while True:
        ready, health = client.get("/health/ready"), client.get("/health")
        said = health.json().get("status")
        if ready.status_code == health.status_code == status and said == answer:
            return
        assert time.monotonic() < deadline, f"{ready.text} {health.text}"
        time.sleep(0.2)


async def test_a_schema_made_anew_costs_the_service_one_request_at_most(
    service: Service, url: str, embedder: Embedder
) -> None:
    service.store("ada", "A kettle.")
    with service.client() as client:
        assert len(recall(client).json()["memories"]) == 1
        connection = await asyncpg.connect(url)
        await connection.execute("drop schema public cascade; create schema public")
        await connection.close()
        await migrations.upgrade(url, embedder.dimension)
        first = recall(client)
        if first.status_code != 200:
            assert_problem(first, 503, "connection_lost")
        for _ in range(5):
            assert recall(client).json()["memories"] == []
        wait_for(client, 200, "ok")
    service.store("ada", "A kettle.")
    assert service.recalled("ada", "kettle") == ["A kettle."]


async def test_an_empty_database_in_its_place_is_told_until_it_is_migrated(
    service: Service, url: str, embedder: Embedder
) -> None:
    service.store("ada", "A kettle.")
    with service.client() as client:
        await emptied(url)
        wait_for(client, 503, "unavailable")
        for _ in range(3):
            assert recall(client).status_code == 503
            assert client.get("/metrics").status_code == 200
        await migrations.upgrade(url, embedder.dimension)
        wait_for(client, 200, "ok")
        assert recall(client).status_code == 200
    assert "Traceback" not in service.output
    assert service.output.count("postgresql_refused") == 1


async def test_a_column_away_is_told_and_a_database_that_only_reads_is_read(
    service: Service, url: str
) -> None:
    service.store("ada", "A kettle.")
    connection = await asyncpg.connect(url)
    name = await connection.fetchval("select current_database()")
    with service.client() as client:
        await connection.execute("alter table memories rename tags to w")
        wait_for(client, 503, "unavailable")
        await connection.execute("alter table memories rename w to tags")
        wait_for(client, 200, "ok")
        await connection.execute(f"alter database {name} set default_transaction_read_only = on")
        await connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        wait_for(client, 200, "degraded")
        refused = client.post("/v1/memories", json={"user_id": "ada", "content": "A jar."})
        assert_problem(refused, 503, "driver_unavailable")
        assert len(recall(client).json()["memories"]) == 1
        await connection.execute(f"alter database {name} reset default_transaction_read_only")
        wait_for(client, 200, "ok")
    service.store("ada", "A jar.")
    await connection.close()
