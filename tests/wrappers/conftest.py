"""Drivers to hold, and wrapping drivers over them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest
from pydantic import SecretStr

from app.embedding import Embedder
from app.settings import (
    CacheSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.node import FAILURES
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.redis_server import RedisServer, running
from tests.wrappers.alone import left_alone
from tests.wrappers.backend import Backend
from tests.wrappers.held import Held

OpenFailover: TypeAlias = Callable[..., Awaitable[FailoverDriver]]
OpenReplicated: TypeAlias = Callable[..., Awaitable[ReplicatedDriver]]
Where: TypeAlias = Literal["in process", "redis"]
NewCached: TypeAlias = Callable[..., CachedDriver]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who looks in a journal looks often."""
    monkeypatch.setattr("app.journal.database.INTERVAL", 0.05)


@pytest.fixture
def first(embedder: Embedder) -> Held:
    return Held("first", embedder)


@pytest.fixture
def second(embedder: Embedder) -> Held:
    return Held("second", embedder)


@pytest.fixture
def journal(tmp_path: Path) -> JournalSettings:
    return JournalSettings(path=tmp_path / "journal")


@pytest.fixture(params=["file", "shared"])
async def file_or_shared(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: NewDatabase
) -> JournalSettings:
    """A journal in a file of this process, and one in a PostgreSQL that several share."""
    url = SecretStr(await new_database()) if request.param == "shared" else None
    return JournalSettings(url=url, path=tmp_path)


@pytest.fixture
async def failover(
    first: Held, second: Held, journal: JournalSettings, embedder: Embedder
) -> AsyncIterator[OpenFailover]:
    """Opens one over both drivers, which probes quickly; closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> FailoverDriver:
            after, seconds = settings.pop("failures", FAILURES), settings.pop("cooldown", 0.05)
            chosen = FailoverSettings(**{"timeout": 1.0, **settings})
            with left_alone(after=after, seconds=seconds):
                driver = FailoverDriver([first, second], chosen, journal, embedder, Limits())
            return await stack.enter_async_context(driver)

        yield opened


@pytest.fixture
async def replicated(
    first: Held, second: Held, journal: JournalSettings, embedder: Embedder
) -> AsyncIterator[OpenReplicated]:
    """Opens one over both drivers, which probes quickly; closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> ReplicatedDriver:
            after, seconds = settings.pop("failures", FAILURES), settings.pop("cooldown", 0.05)
            chosen = ReplicatedSettings(**{"timeout": 1.0, **settings})
            with left_alone(after=after, seconds=seconds):
                driver = ReplicatedDriver([first, second], chosen, journal, embedder, Limits())
            return await stack.enter_async_context(driver)

        yield opened


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, with nothing in it."""
    with running() as server:
        yield server


@pytest.fixture
def backend() -> Backend:
    """What the drivers hold."""
    return Backend()


@pytest.fixture
async def cached_in_redis(
    backend: Backend, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[NewCached]:
    """Makes drivers as replicas have them: on one Redis, over one backend."""
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> CachedDriver:
            timeout = settings.pop("timeout", 5.0)
            monkeypatch.setattr("app.wrappers.cache.redis.ANSWER_SECONDS", timeout)
            settings = {"url": SecretStr(redis.url), **settings}
            driver = CachedDriver(backend, new_store(CacheSettings(**settings)), "test", Limits())
            stack.push_async_callback(driver.close)
            return driver

        yield make


@pytest.fixture(params=["in process", "redis"])
def where(request: pytest.FixtureRequest) -> Where:
    """Where answers are kept."""
    where: Where = request.param
    return where


@pytest.fixture
def cached(where: Where, backend: Backend, request: pytest.FixtureRequest) -> NewCached:
    """Makes drivers over the one backend; in Redis they share answers."""
    if where == "redis":
        make: NewCached = request.getfixturevalue("cached_in_redis")
        return make
    return lambda **settings: CachedDriver(
        backend, new_store(CacheSettings(**settings)), "test", Limits()
    )
