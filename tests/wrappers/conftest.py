"""Cached drivers over one backend, in this process and in Redis."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, Literal, TypeAlias

import pytest
from pydantic import SecretStr

from app.core.memory.wrappers.cached import CachedDriver, new_store
from app.settings import CacheSettings
from tests.redis_server import RedisServer, running
from tests.wrappers.backend import Backend

Where: TypeAlias = Literal["in process", "redis"]
NewCached: TypeAlias = Callable[..., CachedDriver]


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
async def cached_in_redis(backend: Backend, redis: RedisServer) -> AsyncIterator[NewCached]:
    """Makes drivers as replicas have them: on one Redis, over one backend."""
    async with AsyncExitStack() as stack:

        def make(**settings: Any) -> CachedDriver:
            settings = {"url": SecretStr(redis.url), "timeout": 5.0, **settings}
            driver = CachedDriver(backend, new_store(CacheSettings(**settings)), "test")
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
    return lambda **settings: CachedDriver(backend, new_store(CacheSettings(**settings)), "test")
