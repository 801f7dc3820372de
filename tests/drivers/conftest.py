"""A pgvector driver on a database of its own, others on fakes, with any settings."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from app.drivers.automem import AutomemDriver
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pinecone import PineconeDriver
from app.embedding import Embedder
from app.settings import (
    AutomemSettings,
    DatabaseSettings,
    Limits,
    PineconeSettings,
    RecallSettings,
)
from tests.drivers import automem_fake, pinecone_fake
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.pinecone_fake import FakePinecone
from tests.remembering import Remembering

OpenDriver: TypeAlias = Callable[..., Awaitable[PgvectorDriver]]
OpenAutomem: TypeAlias = Callable[..., Awaitable[AutomemDriver]]
OpenPinecone: TypeAlias = Callable[..., Awaitable[PineconeDriver]]


OF_PGVECTOR = {
    "pool_min_size": "app.drivers.pgvector.connections.POOL_MIN_SIZE",
    "pool_timeout": "app.drivers.pgvector.connections.POOL_SECONDS",
}
OF_AUTOMEM = {
    "slot_timeout": "app.drivers.automem.client.SLOT_SECONDS",
    "retries": "app.drivers.automem.client.REPEATS",
    "batch": "app.drivers.automem.writing.BATCH",
    "search_chars": "app.drivers.automem.mapping.SEARCH_CHARS",
}
OF_PINECONE = {
    "answer_bytes": "app.drivers.pinecone.index.ANSWER_BYTES",
    "most_bytes": "app.drivers.pinecone.storing.MOST_BYTES",
    "most_read": "app.drivers.pinecone.reading.MOST_READ",
    "overlay_bytes": "app.drivers.pinecone.overlay.MOST_BYTES",
    "repeats": "app.drivers.pinecone.client.REPEATS",
}
"""What no setting changes, and a test may."""


@pytest.fixture
async def open_driver(
    embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenDriver]:
    """Opens drivers on a URL, with another embedder `instead`; they are closed after the test.

    A constant may be given like a setting; it holds until the end of the test.
    """
    async with AsyncExitStack() as stack:

        async def opened(
            url: str,
            *,
            recall: RecallSettings | None = None,
            instead: Embedder | None = None,
            **settings: Any,
        ) -> PgvectorDriver:
            for name in settings.keys() & OF_PGVECTOR.keys():
                monkeypatch.setattr(OF_PGVECTOR[name], settings.pop(name))
            assert not settings.keys() & {*OF_PGVECTOR, *OF_AUTOMEM}  # of the other backend
            database = DatabaseSettings(url=SecretStr(url), **settings)
            driver = PgvectorDriver(database, instead or embedder, Limits(), recall)
            return await stack.enter_async_context(driver)

        yield opened


@pytest.fixture(scope="session")
def remembering(embedder: Embedder) -> Embedder:
    """The default model, which embeds once what several tests give to AutoMem."""
    return Remembering(embedder)


@pytest.fixture
async def fake(remembering: Embedder) -> AsyncIterator[FakeAutomem]:
    """An AutoMem with all its traps, empty."""
    async with automem_fake.running(remembering) as fake:
        yield fake


@pytest.fixture
async def open_automem(
    fake: FakeAutomem, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenAutomem]:
    """Opens drivers on the fake, as `open_driver` does."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> AutomemDriver:
            for name in settings.keys() & OF_AUTOMEM.keys():
                monkeypatch.setattr(OF_AUTOMEM[name], settings.pop(name))
            assert not settings.keys() & {*OF_PGVECTOR, *OF_AUTOMEM}  # of the other backend
            known = {"url": fake.url, "api_token": SecretStr(automem_fake.TOKEN)}
            driver = AutomemDriver(AutomemSettings(**{**known, **settings}), Limits())
            await stack.enter_async_context(driver)
            fake.calls.clear()
            fake.queries.clear()
            return driver

        yield opened


@pytest.fixture
async def automem(open_automem: OpenAutomem) -> AutomemDriver:
    """A driver on the fake, with the default settings."""
    return await open_automem()


@pytest.fixture
async def index(embedder: Embedder) -> AsyncIterator[FakePinecone]:
    """An index of Pinecone with all its traps, empty."""
    async with pinecone_fake.running(embedder.dimension) as index:
        yield index
        assert not index.without_version


@pytest.fixture
async def open_pinecone(
    index: FakePinecone, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[OpenPinecone]:
    """Opens drivers on the index, as `open_driver` does; their overlays have the index's time."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            recall: RecallSettings | None = None,
            instead: Embedder | None = None,
            **settings: Any,
        ) -> PineconeDriver:
            for name in settings.keys() & OF_PINECONE.keys():
                monkeypatch.setattr(OF_PINECONE[name], settings.pop(name))
            known = {"host": index.url, "api_key": SecretStr(pinecone_fake.KEY)}
            given = PineconeSettings(**{**known, **settings})
            driver = PineconeDriver(
                given, instead or embedder, Limits(), recall, seconds=lambda: index.time
            )
            await stack.enter_async_context(driver)
            index.asked.clear()
            return driver

        yield opened


@pytest.fixture
async def pinecone(open_pinecone: OpenPinecone) -> PineconeDriver:
    """A driver on the index, with the default settings."""
    return await open_pinecone()
