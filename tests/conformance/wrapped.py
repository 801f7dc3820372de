"""Wrapping drivers over drivers that are made: each takes makers and is one."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Literal
from uuid import uuid4

from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.settings import CacheSettings, FailoverSettings, JournalSettings, ReplicatedSettings
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from app.wrappers.scoped import ScopedDriver
from tests.conformance.makers import Maker, Surroundings


def failover(*makers: Maker, writes: Literal["primary", "journal"] = "journal") -> Maker:
    """Over the drivers of these makers, in order."""

    @asynccontextmanager
    async def make(around: Surroundings) -> AsyncIterator[RecordDriver]:
        async with held(around, makers) as inner:
            settings = FailoverSettings(writes=writes)
            journal = JournalSettings(path=around.folder / uuid4().hex)
            async with FailoverDriver(
                inner, settings, journal, around.embedder, around.limits
            ) as driver:
                yield driver

    return make


def replicated(
    *makers: Maker,
    acknowledge: Literal["primary", "quorum", "all"] = "primary",
    reads: Literal["primary", "replicas"] = "primary",
    shared: bool = False,
) -> Maker:
    """The first is the primary; with `shared` the journal is a database."""

    @asynccontextmanager
    async def make(around: Surroundings) -> AsyncIterator[RecordDriver]:
        async with held(around, makers) as inner:
            settings = ReplicatedSettings(acknowledge=acknowledge, reads=reads)
            url = SecretStr(await around.new_database()) if shared else None
            journal = JournalSettings(url=url, path=around.folder / uuid4().hex)
            async with ReplicatedDriver(
                inner, settings, journal, around.embedder, around.limits
            ) as driver:
                yield driver

    return make


@asynccontextmanager
async def held(around: Surroundings, makers: Sequence[Maker]) -> AsyncIterator[list[RecordDriver]]:
    """Drivers with different names, as the manager gives them."""
    async with AsyncExitStack() as stack:
        inner = []
        for n, maker in enumerate(makers):
            driver = await stack.enter_async_context(maker(around))
            driver.name = f"{driver.name}-{n}"
            inner.append(driver)
        yield inner


def cached(maker: Maker, *, redis: bool = False) -> Maker:
    """In this process, or in a Redis."""

    @asynccontextmanager
    async def make(around: Surroundings) -> AsyncIterator[RecordDriver]:
        async with AsyncExitStack() as stack:
            url = SecretStr(around.empty_redis()) if redis else None
            inner = await stack.enter_async_context(maker(around))
            store = new_store(CacheSettings(url=url))
            yield await stack.enter_async_context(CachedDriver(inner, store, "case", around.limits))

    return make


def scoped(maker: Maker) -> Maker:
    """One tenant's part; the inner driver has room for what scoping adds."""

    @asynccontextmanager
    async def make(around: Surroundings) -> AsyncIterator[RecordDriver]:
        async with (
            maker(replace(around, limits=around.limits.widened())) as inner,
            ScopedDriver(inner, "acme", around.limits) as driver,
        ):
            yield driver

    return make
