"""The suite runs once for every case."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.journal.tables import metadata
from app.database.embedded import EmbeddedPostgres
from app.embedding import Embedder
from app.settings import Limits
from tests.conformance.cases import CASES, Case
from tests.conformance.makers import Surroundings
from tests.conftest import NewDatabase, database_url

_TABLES = ("memories", "global_knowledge", *(table.name for table in metadata.sorted_tables[::-1]))


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
            for table in _TABLES:
                if await lent[1].fetchval("select to_regclass($1) is not null", table):
                    await lent[1].execute(f"delete from {table}")  # noqa: S608 - a constant
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


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    case: Case = request.param
    return case


@pytest.fixture
async def driver(
    case: Case, embedder: Embedder, lent_database: NewDatabase, tmp_path: Path
) -> AsyncIterator[BaseMemoryDriver]:
    """An open driver whose backend is empty."""
    async with case.driver(Surroundings(embedder, lent_database, Limits(), tmp_path)) as driver:
        yield driver
