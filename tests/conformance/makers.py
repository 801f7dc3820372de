"""How a backend's driver is made: open, and with an empty backend."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import httpx
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.drivers.automem import AutomemDriver
from app.drivers.automem.mapping import Tags
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pinecone import PineconeDriver
from app.drivers.redis import RedisDriver
from app.drivers.weaviate import WeaviateDriver
from app.embedding import Embedder
from app.settings import (
    AutomemSettings,
    DatabaseSettings,
    Limits,
    PineconeSettings,
    RedisSettings,
    WeaviateSettings,
)
from tests.conftest import NewDatabase
from tests.drivers import automem_fake, pinecone_fake, weaviate_fake
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.pinecone_fake import FakePinecone
from tests.drivers.pinecone_left import namespaces_of_its_own
from tests.drivers.weaviate_fake import FakeWeaviate
from tests.drivers.weaviate_server import collections_of_its_own


@dataclass(frozen=True)
class Surroundings:
    """What a case may use to make its driver."""

    embedder: Embedder
    new_database: NewDatabase
    empty_redis: Callable[[], str]
    empty_search: Callable[[], str]
    limits: Limits
    folder: Path
    fakes: list[FakeAutomem] = field(default_factory=list)
    """The AutoMems that were made."""
    weaviates: list[FakeWeaviate] = field(default_factory=list)
    """The Weaviates that were made."""
    pinecones: list[FakePinecone] = field(default_factory=list)
    """The Pinecones that were made."""


Maker: TypeAlias = Callable[[Surroundings], AbstractAsyncContextManager[RecordDriver]]


@asynccontextmanager
async def inmemory(around: Surroundings) -> AsyncIterator[RecordDriver]:
    async with InMemoryDriver(around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def pgvector(around: Surroundings) -> AsyncIterator[RecordDriver]:
    settings = DatabaseSettings(url=SecretStr(await around.new_database()))
    async with PgvectorDriver(settings, around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def redis(around: Surroundings) -> AsyncIterator[RecordDriver]:
    settings = RedisSettings(url=SecretStr(around.empty_search()))
    async with RedisDriver(settings, around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def weaviate(around: Surroundings) -> AsyncIterator[RecordDriver]:
    """On the Weaviate of TEST_WEAVIATE_URL and TEST_WEAVIATE_API_KEY, else on the fake.

    Collections of its own keep a test apart from all else on a real server; they are deleted.
    """
    real = os.environ.get("TEST_WEAVIATE_URL")
    if real is None:
        async with weaviate_fake.running() as fake:
            around.weaviates.append(fake)
            settings = WeaviateSettings(url=fake.url, api_key=SecretStr(weaviate_fake.KEY))
            async with WeaviateDriver(settings, around.embedder, around.limits) as driver:
                yield driver
        return
    async with (
        collections_of_its_own(real) as settings,
        WeaviateDriver(settings, around.embedder, around.limits) as driver,
    ):
        yield driver


@asynccontextmanager
async def automem(around: Surroundings) -> AsyncIterator[RecordDriver]:
    """On the AutoMem of TEST_AUTOMEM_URL and TEST_AUTOMEM_TOKEN, else on the fake.

    A tag secret of its own keeps a test apart from all else on a real server, and finds what it
    made there again, to delete it.
    """
    secret = SecretStr(uuid4().hex)
    real = os.environ.get("TEST_AUTOMEM_URL")
    if real is None:
        async with automem_fake.running(around.embedder) as fake:
            around.fakes.append(fake)
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


@asynccontextmanager
async def pinecone(around: Surroundings) -> AsyncIterator[RecordDriver]:
    """On the index of TEST_PINECONE_HOST and TEST_PINECONE_API_KEY, else on the fake."""
    real = os.environ.get("TEST_PINECONE_HOST")
    async with AsyncExitStack() as stack:
        if real is not None:
            settings = await stack.enter_async_context(namespaces_of_its_own(real))
        else:
            fake = await stack.enter_async_context(pinecone_fake.running(around.embedder.dimension))
            around.pinecones.append(fake)
            settings = PineconeSettings(api_key=SecretStr(pinecone_fake.KEY), host=fake.url)
        async with PineconeDriver(settings, around.embedder, around.limits) as driver:
            yield driver
