"""The running service that most tests call."""

from collections.abc import Iterator

import asyncpg
import pytest

from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from tests.conftest import database_url
from tests.service.service import Service

KEY = "the-key-of-the-tests"


@pytest.fixture(scope="session")
async def shared_database(postgres: EmbeddedPostgres) -> str:
    """The URL of an empty database that all users of `service` share."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create database service")
    await admin.close()
    return database_url(postgres, "service")


@pytest.fixture(scope="session")
def service(shared_database: str) -> Iterator[Service]:
    """A service on the pgvector driver, with the API key `KEY`.

    Its records are shared: use user ids of your own.
    """
    settings = {
        "MEMORY_DRIVER": "pgvector",
        "DATABASE_URL": shared_database,
        "MEMORY_MIGRATE": "true",
    }
    with Service(settings, KEY) as service:
        yield service
