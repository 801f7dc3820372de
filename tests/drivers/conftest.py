"""A pgvector driver on a database of its own, with whatever settings a test needs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from app.core.memory.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits

OpenDriver: TypeAlias = Callable[..., Awaitable[PgvectorDriver]]


@pytest.fixture
async def open_driver(embedder: Embedder) -> AsyncIterator[OpenDriver]:
    """Opens drivers on a URL; they are closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(url: str, **settings: Any) -> PgvectorDriver:
            database = DatabaseSettings(url=SecretStr(url), **settings)
            driver = PgvectorDriver(database, embedder, Limits())
            return await stack.enter_async_context(driver)

        yield opened
