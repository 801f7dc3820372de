"""Servers to be killed: PostgreSQL and Redis."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.server import Server
from tests.redis_server import KEEPING, NO_SEARCH, RedisServer, can_search, running


async def _running(factory: pytest.TempPathFactory, name: str) -> AsyncIterator[Server]:
    server = Server(factory.mktemp(name))
    await server.open()
    yield server
    server.back()
    await server.close()


@pytest.fixture(scope="session")
async def first(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The primary's."""
    async for server in _running(tmp_path_factory, "first"):
        yield server


@pytest.fixture(scope="session")
async def second(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The replica's, or the one to fall back on."""
    async for server in _running(tmp_path_factory, "second"):
        yield server


@pytest.fixture(scope="session")
async def third(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """The journal's."""
    async for server in _running(tmp_path_factory, "third"):
        yield server


@pytest.fixture
def search() -> Iterator[RedisServer]:
    """A Redis that keeps what it is given through a SIGKILL."""
    if not can_search():
        pytest.skip(NO_SEARCH)
    with running(*KEEPING, search=True) as server:
        yield server
