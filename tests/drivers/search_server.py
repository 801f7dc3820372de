"""Real servers of Redis that search, and drivers on them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest
from pydantic import SecretStr

from app.drivers.redis import RedisDriver
from app.drivers.redis.embedders import EmbedderOf
from app.embedding import Embedder
from app.settings import Limits, RecallSettings, RedisSettings
from tests.redis_server import KEEPING, NO_SEARCH, RedisServer, can_search, running

OpenRedis: TypeAlias = Callable[..., Awaitable[RedisDriver]]


@pytest.fixture
def search() -> Iterator[RedisServer]:
    """A server of the test's own, which keeps what it is given through a SIGKILL."""
    if not can_search():
        pytest.skip(NO_SEARCH)
    with running(*KEEPING, search=True) as server:
        yield server


@pytest.fixture
async def open_redis(embedder: Embedder, search: RedisServer) -> AsyncIterator[OpenRedis]:
    """Opens drivers on the server, with another embedder `instead`; they are closed at the end."""
    async with AsyncExitStack() as stack:

        async def opened(
            *,
            instead: Embedder | None = None,
            recall: RecallSettings | None = None,
            url: str | None = None,
            embedder_of: EmbedderOf | None = None,
            **settings: Any,
        ) -> RedisDriver:
            group = RedisSettings(url=SecretStr(url or search.url), **settings)
            driver = RedisDriver(
                group, instead or embedder, Limits(), recall, embedder_of=embedder_of
            )
            return await stack.enter_async_context(driver)

        yield opened
