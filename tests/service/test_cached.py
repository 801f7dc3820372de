"""Two services, one PostgreSQL, one Redis."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from tests.conftest import database_url
from tests.redis_server import RedisServer, running
from tests.service.service import Service

FRESH = {"Cache-Control": "max-age=0, No-Cache"}
UNKEPT = {"Cache-Control": "no-store"}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running() as server:
        yield server


@pytest.fixture(scope="module")
async def database(postgres: EmbeddedPostgres) -> str:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create database cached_services")
    await admin.close()
    return database_url(postgres, "cached_services")


@pytest.fixture(scope="module")
def services(redis: RedisServer, database: str) -> Iterator[list[Service]]:
    """Replicas, configured alike."""
    settings = {
        "MEMORY_DRIVER": "main",
        "MEMORY_DRIVERS__MAIN__TYPE": "cached",
        "MEMORY_DRIVERS__MAIN__INNER": "pgvector",
        "MEMORY_CACHE_URL": redis.url,
        "MEMORY_MIGRATE": "true",
        "DATABASE_URL": database,
    }
    with ExitStack() as stack:
        yield [stack.enter_context(Service(settings)) for _ in range(2)]


def recall(
    service: Service, user_id: str, headers: dict[str, str] | None = None
) -> tuple[set[str], dict[str, Any]]:
    """The contents, and the answer."""
    with httpx.Client(base_url=service.url, timeout=60) as client:
        body = {"user_id": user_id, "query": "kettle"}
        found = client.post("/v1/memories/recall", json=body, headers=headers)
    assert found.status_code == 200, found.text
    answer: dict[str, Any] = found.json()
    return {memory["content"] for memory in answer["memories"]}, answer


def test_what_one_service_stores_the_other_finds_at_once_and_answers_again_cached(
    services: list[Service],
) -> None:
    one, two = services
    user = uuid4().hex
    one.store(user, "kettle 0")
    for n in range(1, 4):
        first, answer = recall(two, user)
        assert len(first) == n
        assert (answer["cached"], answer["driver"]) == (False, "pgvector")
        for service in services:
            again, repeated = recall(service, user)
            assert again == first
            assert (repeated["cached"], repeated["driver"]) == (True, "pgvector")
            assert repeated["memories"] == answer["memories"]
        services[n % 2].store(user, f"kettle {n}")
    with one.client() as client:
        deleted = client.delete(f"/v1/users/{user}/memories")
    assert deleted.json() == {"deleted": 4}
    assert recall(two, user)[0] == set()


@pytest.mark.parametrize("inner", ["pgvector", "inmemory"])
def test_services_configured_alike_with_records_of_their_own_share_no_answers(
    redis: RedisServer, tmp_path: Path, inner: str
) -> None:
    settings = {
        "MEMORY_DRIVER": "main",
        "MEMORY_DRIVERS__MAIN__TYPE": "cached",
        "MEMORY_DRIVERS__MAIN__INNER": inner,
        "MEMORY_CACHE_URL": redis.url,
        "MEMORY_DATA_DIR": "data",  # of an embedded PostgreSQL, each in its own folder
    }
    user = uuid4().hex
    with ExitStack() as stack:
        services = []
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            services.append(stack.enter_context(Service(settings, folder=folder)))
        services[0].store(user, "kettle")
        assert recall(services[0], user)[0] == {"kettle"}
        assert recall(services[0], user)[1]["cached"]
        contents, answer = recall(services[1], user)
        assert (contents, answer["cached"]) == (set(), False)


def test_a_request_can_bypass_the_cache(services: list[Service]) -> None:
    service, user = services[0], uuid4().hex
    service.store(user, "kettle")
    recall(service, user)
    assert recall(service, user)[1]["cached"]
    assert not recall(service, user, FRESH)[1]["cached"]
    assert not recall(service, user, UNKEPT)[1]["cached"]
    assert recall(service, user)[1]["cached"]
    unknown = uuid4().hex
    recall(service, unknown, UNKEPT)
    assert not recall(service, unknown)[1]["cached"]
    other = uuid4().hex
    recall(service, other, FRESH)
    assert recall(service, other)[1]["cached"]


def test_health_tells_of_the_cache_and_of_what_it_holds(services: list[Service]) -> None:
    with services[0].client() as client:
        health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["driver"]["driver"] == "main"
    assert health["driver"]["facts"]["store"] == "redis"
    assert [inner["driver"] for inner in health["driver"]["drivers"]] == ["pgvector"]
    assert {"get", "explain_recall", "store_many"} <= set(health["capabilities"])


def test_the_services_go_on_without_redis_and_find_it_again(
    services: list[Service], redis: RedisServer
) -> None:
    one, two = services
    user = uuid4().hex
    one.store(user, "kettle 0")
    recall(two, user)
    redis.kill()
    one.store(user, "kettle 1")
    for service in services:
        contents, answer = recall(service, user)
        assert len(contents) == 2
        assert not answer["cached"]
        with service.client() as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/health").json()["status"] == "degraded"
        assert service.output.count("backend_away") == 1
        assert redis.socket not in service.output
    redis.start()
    for service in services:
        with service.client() as client:
            for _ in range(200):
                if client.get("/health").json()["status"] == "ok":
                    break
                time.sleep(0.05)
        assert len(recall(service, user)[0]) == 2
