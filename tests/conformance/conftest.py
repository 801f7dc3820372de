"""The suite runs once for every case."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import asyncpg
import pytest

from app.core.memory.record_driver import RecordDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.journal.tables import metadata
from app.settings import Limits
from tests.conformance.cases import CASES, Case
from tests.conformance.makers import Surroundings
from tests.conftest import NewDatabase, database_url
from tests.redis_server import KEEPING, NO_SEARCH, RedisServer, can_search, running

_TABLES = ("memories", "global_knowledge", *(table.name for table in metadata.sorted_tables[::-1]))
_THERE = (
    "select array(select name from unnest($1::text[]) name where to_regclass(name) is not null)"
)


class Databases:
    """Databases that are emptied and lent again: to make one takes longer than most tests."""

    def __init__(self, server: EmbeddedPostgres, template: str) -> None:
        self._server = server
        self._template = template
        self._made = 0
        self._free: list[tuple[str, asyncpg.Connection[asyncpg.Record]]] = []
        self._lent: list[tuple[str, asyncpg.Connection[asyncpg.Record]]] = []

    async def lend(self) -> str:
        """The URL of one without rows."""
        if not self._free:
            self._made += 1
            name = f"conformance_{self._made}"
            admin = await asyncpg.connect(database_url(self._server, "postgres"))
            await admin.execute(f"create database {name} template {self._template}")
            await admin.close()
            url = database_url(self._server, name)
            self._free.append((url, await asyncpg.connect(url)))
        self._lent.append(self._free.pop())
        return self._lent[-1][0]

    async def take_back(self) -> None:
        """Empty all that were lent."""
        while self._lent:
            lent = self._lent.pop()
            there = await lent[1].fetchval(_THERE, _TABLES)
            await lent[1].execute("".join(f"delete from {table};" for table in there))  # noqa: S608
            self._free.append(lent)

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for _, connection in self._free:
                stack.push_async_callback(connection.close)


@pytest.fixture(scope="session")
async def databases(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[Databases]:
    """What the suite's tests lend one another."""
    databases = Databases(postgres, template)
    yield databases
    await databases.close()


@pytest.fixture
async def lent_database(databases: Databases) -> AsyncIterator[NewDatabase]:
    """Lends databases for a test."""
    yield databases.lend
    await databases.take_back()


@pytest.fixture(scope="session")
def empty_redis() -> Iterator[Callable[[], str]]:
    """Gives the URL of one Redis for all tests, which holds nothing; it starts when first asked."""
    servers: list[RedisServer] = []
    with ExitStack() as stack:

        def emptied() -> str:
            if not servers:
                servers.append(stack.enter_context(running()))
            with servers[0].client() as client:
                client.flushall()
            return servers[0].url

        yield emptied


@pytest.fixture(scope="session")
def empty_search() -> Iterator[Callable[[], str]]:
    """As `empty_redis`, of one that searches and keeps everything."""
    servers: list[RedisServer] = []
    with ExitStack() as stack:

        def emptied() -> str:
            if not can_search():
                pytest.skip(NO_SEARCH)
            if not servers:
                servers.append(stack.enter_context(running(*KEEPING, search=True)))
            with servers[0].client() as client:
                client.flushall()
            return servers[0].url

        yield emptied


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    return case


@pytest.fixture
def around(
    embedder: Embedder,
    lent_database: NewDatabase,
    empty_redis: Callable[[], str],
    empty_search: Callable[[], str],
    tmp_path: Path,
) -> Surroundings:
    """What a case may use."""
    return Surroundings(embedder, lent_database, empty_redis, empty_search, Limits(), tmp_path)


@pytest.fixture
async def driver(case: Case, around: Surroundings) -> AsyncIterator[RecordDriver]:
    """An open driver whose backend is empty."""
    async with case.driver(around) as driver:
        assert driver.keeps_documents == case.keeps_documents  # no promise goes untested
        yield driver
