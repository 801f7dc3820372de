"""What makes a driver join the conformance suite: one case."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias
from uuid import uuid4

import httpx
from pydantic import SecretStr

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.drivers.automem import AutomemDriver
from app.core.memory.drivers.automem.mapping import Tags
from app.core.memory.drivers.inmemory import InMemoryDriver
from app.core.memory.drivers.pgvector import PgvectorDriver
from app.core.memory.wrappers.failover import FailoverDriver
from app.core.memory.wrappers.replicated import ReplicatedDriver
from app.embedding import Embedder
from app.settings import (
    AutomemSettings,
    DatabaseSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from tests.conftest import NewDatabase
from tests.drivers import automem_fake


@dataclass(frozen=True)
class Surroundings:
    """What a case may use to make its driver."""

    embedder: Embedder
    new_database: NewDatabase
    limits: Limits
    folder: Path


Maker: TypeAlias = Callable[[Surroundings], AbstractAsyncContextManager[BaseMemoryDriver]]


@dataclass(frozen=True)
class Case:
    """A driver's name, and how to make an open one with an empty backend."""

    name: str
    driver: Maker


@asynccontextmanager
async def inmemory(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
    async with InMemoryDriver(around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def pgvector(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
    settings = DatabaseSettings(url=SecretStr(await around.new_database()))
    async with PgvectorDriver(settings, around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def automem(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
    """On the AutoMem of TEST_AUTOMEM_URL and TEST_AUTOMEM_TOKEN, else on the fake.

    A tag secret of its own keeps a test apart from all else on a real server, and finds what it
    made there again, to delete it.
    """
    secret = SecretStr(uuid4().hex)
    real = os.environ.get("TEST_AUTOMEM_URL")
    if real is None:
        async with automem_fake.running(around.embedder) as fake:
            settings = AutomemSettings(
                url=fake.url, api_token=SecretStr(automem_fake.TOKEN), tag_secret=secret
            )
            async with AutomemDriver(settings, around.limits) as driver:
                yield driver
        return
    token = os.environ.get("TEST_AUTOMEM_TOKEN", "")
    settings = AutomemSettings(
        url=real, api_token=SecretStr(token) if token else None, tag_secret=secret
    )
    try:
        async with AutomemDriver(settings, around.limits) as driver:
            yield driver
    finally:
        tags = {"tags": Tags(secret.get_secret_value()).everything}
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=real, headers=headers, timeout=60) as client:
            (await client.delete("/memory/by-tag", params=tags)).raise_for_status()
            left = (await client.get("/memory/by-tag", params=tags)).raise_for_status().json()
        assert left["memories"] == []


def failover(*makers: Maker, writes: Literal["primary", "journal"] = "journal") -> Maker:
    """Over the drivers of these makers, in order."""

    @asynccontextmanager
    async def make(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
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
    async def make(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
        async with held(around, makers) as inner:
            settings = ReplicatedSettings(acknowledge=acknowledge, reads=reads)
            url = SecretStr(await around.new_database()) if shared else None
            journal = JournalSettings(url=url, path=around.folder / uuid4().hex)
            async with ReplicatedDriver(inner, settings, journal, around.limits) as driver:
                yield driver

    return make


@asynccontextmanager
async def held(
    around: Surroundings, makers: Sequence[Maker]
) -> AsyncIterator[list[BaseMemoryDriver]]:
    """Drivers with different names, as the manager gives them."""
    async with AsyncExitStack() as stack:
        inner = []
        for n, maker in enumerate(makers):
            driver = await stack.enter_async_context(maker(around))
            driver.name = f"{driver.name}-{n}"
            inner.append(driver)
        yield inner


CASES = [
    Case("automem", automem),
    Case("inmemory", inmemory),
    Case("pgvector", pgvector),
    Case("failover", failover(inmemory, inmemory)),
    Case("failover-primary", failover(inmemory, inmemory, writes="primary")),
    Case("failover-pgvector", failover(pgvector, automem)),
    Case("replicated", replicated(inmemory, inmemory)),
    Case(
        "replicated-pgvector", replicated(pgvector, pgvector, acknowledge="all", reads="replicas")
    ),
    Case("replicated-shared", replicated(inmemory, inmemory, acknowledge="quorum", shared=True)),
]

WAYS: list[dict[str, Any]] = [{}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}]
"""Arguments for the three ways to recall: newest first, by vector, by words."""
