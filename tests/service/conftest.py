"""One running service on PostgreSQL, for the tests that only call it."""

from collections.abc import Iterator

import asyncpg
import pytest

from app.database.embedded import EmbeddedPostgres
from tests.conftest import database_url
from tests.service.service import Service


@pytest.fixture(scope="session")
async def shared_database(postgres: EmbeddedPostgres, template: str) -> str:
    """The URL of a database at head that all users of `service` share."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database service template {template}")
    await admin.close()
    return database_url(postgres, "service")


@pytest.fixture(scope="session")
def service(shared_database: str) -> Iterator[Service]:
    """A service on the pgvector driver. Its records are shared: use user ids of your own."""
    with Service({"MEMORY_DRIVER": "pgvector", "DATABASE_URL": shared_database}) as service:
        yield service
