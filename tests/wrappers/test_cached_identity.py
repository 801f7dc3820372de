"""Whose answers a cached driver finds in a Redis that others use too."""

import copy
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from app.core.memory.base import BaseMemoryDriver, DriverContext
from app.core.memory.records import Memory
from app.drivers.automem import AutomemDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import DriverUnavailable
from app.settings import (
    AutomemSettings,
    CacheSettings,
    DatabaseSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    NamedDriver,
    RerankSettings,
    Settings,
)
from app.wrappers.cache.identity import configured
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver
from tests.conftest import NewDatabase
from tests.redis_server import RedisServer
from tests.service.door import Door
from tests.service.six_verbs import SixVerbs
from tests.wrappers.backend import Backend
from tests.wrappers.flaky import OneVector
from tests.wrappers.test_cached import was_cached

Over: TypeAlias = Callable[[BaseMemoryDriver], CachedDriver]


class Moving(Backend):
    """A backend whose records are where a test says."""

    where: str | None = "here"

    def identity(self) -> frozenset[str] | None:
        return None if self.where is None else frozenset({self.where})


@pytest.fixture
async def over(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Over]:
    """Makes cached drivers that are configured alike, on one Redis; their stores are closed."""
    monkeypatch.setattr("app.wrappers.cache.redis.ANSWER_SECONDS", 5.0)
    made: list[CachedDriver] = []

    def make(inner: BaseMemoryDriver) -> CachedDriver:
        settings = CacheSettings(url=SecretStr(redis.url))
        made.append(CachedDriver(inner, new_store(settings), "alike", Limits()))
        return made[-1]

    yield make
    for driver in made:
        await driver.close()


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


@pytest.mark.parametrize("kind", [Backend, SixVerbs])
async def test_two_drivers_that_keep_their_records_to_themselves_share_nothing(
    over: Over, kind: Callable[[], BaseMemoryDriver]
) -> None:
    one, two = over(kind()), over(kind())
    await one.store("ada", "a kettle")
    for _ in range(2):
        assert len(await one.recall("ada")) == 1
    assert was_cached(await one.recall("ada"))
    found = await two.recall("ada")
    assert found == []
    assert not was_cached(found)
    assert len(await one.recall("ada")) == 1


async def test_another_server_under_the_same_settings_shares_nothing(
    over: Over,
    new_database: NewDatabase,
    postgres: EmbeddedPostgres,
    other_postgres: EmbeddedPostgres,
    door: Door,
    embedder: Embedder,
) -> None:
    name = urlsplit(await new_database()).path.strip("/")
    admin = await asyncpg.connect(other_postgres.admin_dsn)
    await admin.execute(f"create database {name}")
    url = SecretStr(f"postgresql://memory@127.0.0.1:{door.port}/{name}")
    settings = DatabaseSettings(url=url, migrate=True)
    servers = (postgres, other_postgres, postgres)
    found: list[list[Memory]] = []
    for server in servers:
        await door.open(f"{server.socket_dir}/.s.PGSQL.5432")
        driver = over(PgvectorDriver(settings, embedder, Limits()))
        await driver.open()
        if not found:
            await driver.store("ada", "a kettle")
            assert len(await driver.recall("ada")) == 1
        found.append(await driver.recall("ada"))
        await driver.close()
    assert [len(each) for each in found] == [1, 0, 1]
    assert [was_cached(each) for each in found] == [True, False, True]
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


async def test_a_driver_that_is_away_at_the_start_is_cached_when_it_is_there(
    over: Over,
    new_database: NewDatabase,
    postgres: EmbeddedPostgres,
    door: Door,
    embedder: Embedder,
) -> None:
    path = urlsplit(await new_database()).path
    url = SecretStr(f"postgresql://memory@127.0.0.1:{door.port}{path}")
    driver = over(PgvectorDriver(DatabaseSettings(url=url), embedder, Limits()))
    with pytest.raises(DriverUnavailable):
        await driver.open()
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada")
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    assert [was_cached(await driver.recall("ada")) for _ in range(3)] == [False, False, True]


async def test_while_it_is_not_known_where_the_records_are_nothing_is_kept_and_writes_are_told(
    over: Over,
) -> None:
    backend = Moving()
    driver = over(backend)
    assert await driver.recall("ada") == []
    assert was_cached(await driver.recall("ada"))
    backend.where = None
    for _ in range(2):
        assert not was_cached(await driver.recall("ada"))
    await driver.store("ada", "a kettle")
    backend.where = "here"
    found = await driver.recall("ada")
    assert len(found) == 1
    assert not was_cached(found)
    assert was_cached(await driver.recall("ada"))


async def test_what_was_asked_before_the_records_moved_is_not_kept(over: Over) -> None:
    backend = Moving()
    driver = over(backend)

    async def move() -> None:
        backend.where = "there"

    backend.after = move
    assert not was_cached(await driver.recall("ada"))
    for where in ("there", "here"):
        backend.where = where
        assert not was_cached(await driver.recall("ada")), where
    backend.where = "there"
    assert was_cached(await driver.recall("ada"))


def test_a_driver_s_own_identity_stays_and_is_nobody_else_s(root: Path) -> None:
    driver = SixVerbs()
    own = driver.identity()
    assert own
    assert driver.identity() is own
    assert len({own, copy.copy(driver).identity(), SixVerbs().identity()}) == 3
    code = (
        "import os, sys\n"
        "from tests.service.six_verbs import SixVerbs\n"
        "driver = SixVerbs()\n"
        "driver.identity()\n"
        "child = os.fork()\n"
        "if child: os.waitpid(child, 0)\n"
        "print(*driver.identity(), flush=True)\n"
        "os._exit(0)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert len(set(said)) == len(said) == 2


def test_a_wrapping_driver_s_identity_is_that_of_all_that_it_holds(tmp_path: Path) -> None:
    one, two = Moving(), Moving()
    one.name, two.where = "one", "there"
    journal = JournalSettings(path=tmp_path)
    both = FailoverDriver([one, two], FailoverSettings(), journal, OneVector(), Limits())
    for driver in (both, ScopedDriver(both, "acme", Limits()), UnscopedDriver(both, Limits())):
        assert driver.identity() == frozenset({"here", "there"})
    two.where = None
    assert both.identity() is None


def test_automem_s_identity_is_its_endpoint_and_for_loopback_the_machine_too() -> None:
    def of(url: str) -> frozenset[str]:
        return AutomemDriver(AutomemSettings(url=url), Limits()).identity()

    assert of("http://automem.internal:8001") == {"automem/http://automem.internal:8001"}
    assert of("http://automem.internal:8001/") == of("http://automem.internal:8001")
    for host in ("localhost", "127.0.0.1", "[::1]"):
        (identity,) = of(f"http://{host}:8001")
        assert identity.startswith(f"automem/http://{host}:8001@")


def test_two_tenants_are_configured_differently() -> None:
    def of(tenant: str) -> str:
        scoped = NamedDriver(type="scoped", inner=("pgvector",), options={"tenant": tenant})
        named = {"main": NamedDriver(type="cached", inner=("part",)), "part": scoped}
        return configured(DriverContext("main", Settings(named=named), OneVector()))

    assert of("acme") == of("acme") != of("globex")


def test_services_that_rerank_otherwise_share_no_answers() -> None:
    def of(**rerank: Any) -> str:
        named = {"main": NamedDriver(type="cached", inner=("pgvector",))}
        settings = Settings(named=named, rerank=RerankSettings(**rerank))
        return configured(DriverContext("main", settings, OneVector()))

    ways: list[dict[str, Any]] = [
        {},
        {"model": "some/model"},
        {"model": "other/model"},
        {"url": "http://reranker"},
        {"url": "http://reranker", "form": "jina", "name": "one"},
        {"url": "http://reranker", "form": "jina", "name": "two"},
    ]
    assert len({of(**way) for way in ways}) == len(ways)
    assert of(model="some/model") == of(model="some/model")


def test_the_working_folder_tells_embedded_servers_apart_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(inner: str, folder: Path, url: str | None = None) -> str:
        monkeypatch.chdir(folder)
        named = {"main": NamedDriver(type="cached", inner=(inner,))}
        database = DatabaseSettings(url=SecretStr(url) if url else None)
        settings = Settings(named=named, database=database)
        return configured(DriverContext("main", settings, OneVector()))

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert of("pgvector", tmp_path) != of("pgvector", elsewhere)
    assert of("automem", tmp_path) == of("automem", elsewhere)
    url = "postgresql://db/memory"
    assert of("pgvector", tmp_path, url) == of("pgvector", elsewhere, url)
