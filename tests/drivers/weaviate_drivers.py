"""A fake of Weaviate, and drivers on it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from app.drivers.weaviate import WeaviateDriver
from app.embedding import Embedder
from app.settings import Limits, RecallSettings, WeaviateSettings
from tests.drivers import weaviate_fake
from tests.drivers.weaviate_fake import FakeWeaviate

OpenWeaviate: TypeAlias = Callable[..., Awaitable[WeaviateDriver]]


@pytest.fixture
async def server() -> AsyncIterator[FakeWeaviate]:
    """A Weaviate with all its traps, empty."""
    async with weaviate_fake.running() as fake:
        yield fake


@pytest.fixture
async def open_weaviate(embedder: Embedder, server: FakeWeaviate) -> AsyncIterator[OpenWeaviate]:
    """Opens drivers on the fake, with another embedder `instead`; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            instead: Embedder | None = None,
            recall: RecallSettings | None = None,
            **settings: Any,
        ) -> WeaviateDriver:
            known = {"url": server.url, "api_key": SecretStr(weaviate_fake.KEY)}
            group = WeaviateSettings(**{**known, **settings})
            driver = WeaviateDriver(group, instead or embedder, Limits(), recall)
            await stack.enter_async_context(driver)
            await driver.sweeper.stop()  # its calls would be among those of a test
            server.calls.clear()
            server.bodies.clear()
            return driver

        yield opened


@pytest.fixture
async def weaviate(open_weaviate: OpenWeaviate) -> WeaviateDriver:
    """A driver on the fake, with the default settings."""
    return await open_weaviate()
