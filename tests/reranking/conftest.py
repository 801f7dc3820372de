"""Endpoints, models, and drivers that use them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.drivers.automem import AutomemDriver
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.reranking import Reranking, build_reranking
from app.settings import (
    AutomemSettings,
    DatabaseSettings,
    Limits,
    RerankSettings,
)
from tests.conftest import NewDatabase
from tests.drivers import automem_fake
from tests.reranking import cross_encoder, endpoint
from tests.reranking.endpoint import Endpoint

Open: TypeAlias = Callable[[Reranking | None], AbstractAsyncContextManager[RecordDriver]]


@pytest.fixture
async def reranker() -> AsyncIterator[Endpoint]:
    """An endpoint that prefers copper."""
    async with endpoint.running() as running:
        yield running


@pytest.fixture(scope="session")
def copper_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-encoder that prefers copper."""
    return cross_encoder.write(tmp_path_factory.mktemp("model") / "copper")


@pytest.fixture(params=["automem", "inmemory", "pgvector"])
def open_driver(
    request: pytest.FixtureRequest, embedder: Embedder, new_database: NewDatabase
) -> Open:
    """Opens a driver with an empty backend."""

    @asynccontextmanager
    async def automem(reranking: Reranking | None) -> AsyncIterator[RecordDriver]:
        async with automem_fake.running(embedder) as fake:
            settings = AutomemSettings(
                url=fake.url,
                api_token=SecretStr(automem_fake.TOKEN),
                tag_secret=SecretStr("kettle"),
            )
            async with AutomemDriver(settings, Limits(), reranking=reranking) as driver:
                yield driver

    @asynccontextmanager
    async def inmemory(reranking: Reranking | None) -> AsyncIterator[RecordDriver]:
        async with InMemoryDriver(embedder, Limits(), reranking=reranking) as driver:
            yield driver

    @asynccontextmanager
    async def pgvector(reranking: Reranking | None) -> AsyncIterator[RecordDriver]:
        settings = DatabaseSettings(url=SecretStr(await new_database()))
        async with PgvectorDriver(settings, embedder, Limits(), reranking=reranking) as driver:
            yield driver

    return {"automem": automem, "inmemory": inmemory, "pgvector": pgvector}[request.param]


@pytest.fixture
async def reranking(reranker: Endpoint) -> AsyncIterator[Reranking]:
    """Of the endpoint, closed at the end."""
    built = build_reranking(RerankSettings(url=reranker.url, timeout=5.0))
    assert built is not None
    yield built
    await built.close()


@pytest.fixture
async def driver(open_driver: Open, reranking: Reranking) -> AsyncIterator[RecordDriver]:
    """One that reranks."""
    async with open_driver(reranking) as driver:
        yield driver
