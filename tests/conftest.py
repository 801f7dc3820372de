"""What every test shares: one model, one PostgreSQL, and a fresh database for whoever asks."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol
from uuid import uuid4

import asyncpg
import pytest

from app.drivers.pgvector import migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder, build_embedder
from app.settings import EmbeddingSettings, all_groups
from tests.hangs import loop_of_the_tests, pytest_runtest_makereport
from tests.memory_folder import write_into_memory

__all__ = ["loop_of_the_tests", "pytest_runtest_makereport"]

write_into_memory()
for _name in list(os.environ):
    if _name.startswith(("AUTOMEM_", "MEMORY_", "DATABASE_", "PINECONE_", "REDIS_", "WEAVIATE_")):
        del os.environ[_name]
# One engine on every machine: auto may take another where the processor has bf16. Whoever wants to
# see what another does sets TEST_EMBEDDING_ENGINE: every test that names no engine is on it.
_engine = os.environ.get("TEST_EMBEDDING_ENGINE") or "onnxruntime"
os.environ["MEMORY_EMBEDDING_ENGINE"] = _engine
# Here and in the services that tests start: threads of torch that wait for each other only burn
# what the other process of the tests needs.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Likewise: one export for all of them, and none of the user's.
os.environ["XDG_CACHE_HOME"] = str(Path(__file__).parents[1] / ".pytest_cache" / "xdg")
# No test but one against a real AutoMem, Pinecone or Weaviate meets a certificate, and to read all
# that the machine trusts takes each HTTP client longer than most tests: here and in the services
# there are none.
if not {"TEST_AUTOMEM_URL", "TEST_PINECONE_HOST", "TEST_WEAVIATE_URL"} & os.environ.keys():
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)
for _group in all_groups():
    _group.model_config["env_file"] = None


_FIRST = (
    # On a machine without the model's graph the first exports it. The next few, for the other
    # process, need no model: it would export the same.
    "test_embedding_graph.py",
    "ranking",
    "test_records.py",
    "test_settings.py",
    # What takes longest, so that no process ends long after the other.
    "faults",
    "conformance",
    "wrappers/test_schedules.py",
    "test_embedding_openvino.py",
    "drivers",
    "migrations",
    "service",
    "commands",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bring the files into an order that suits several processes; whatever is not named is last."""
    folder = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(folder)
        names = {path.as_posix(), *(parent.as_posix() for parent in path.parents)}
        return next((n for n, first in enumerate(_FIRST) if first in names), len(_FIRST))

    items.sort(key=rank)


class NewDatabase(Protocol):
    """Makes a database that is already at head, and gives its URL."""

    async def __call__(self) -> str: ...


@pytest.fixture(scope="session")
async def embedder() -> AsyncIterator[Embedder]:
    """The default model, as the service loads it."""
    # One thread: the tests share the cores with PostgreSQL and with the services they start.
    embedder = build_embedder(EmbeddingSettings(threads=1))
    await embedder.open()
    yield embedder
    await embedder.close()


@pytest.fixture(scope="session")
async def postgres(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPostgres]:
    """A PostgreSQL with pgvector that lives as long as the tests."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    await server.open()
    # What is written here outlives any process that is killed, and need not outlive a power cut.
    admin = await asyncpg.connect(server.admin_dsn)
    await admin.execute("alter system set fsync = off")
    await admin.execute("select pg_reload_conf()")
    await admin.close()
    yield server
    await server.close()


@pytest.fixture(scope="session")
async def other_postgres(
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[EmbeddedPostgres]:
    """Another one, with an empty database `memory`."""
    server = EmbeddedPostgres(tmp_path_factory.mktemp("other"))
    await server.open()
    yield server
    await server.close()


@pytest.fixture(scope="session")
async def template(postgres: EmbeddedPostgres, embedder: Embedder) -> str:
    """The name of a database at head, without rows, that others are cloned from."""
    await migrations.upgrade(postgres.dsn, embedder.dimension)
    return "memory"


@pytest.fixture
async def new_database(postgres: EmbeddedPostgres, template: str) -> AsyncIterator[NewDatabase]:
    """Clones of the template, dropped after the test."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    made: list[str] = []

    async def clone() -> str:
        name = f"test_{uuid4().hex}"
        await admin.execute(f"create database {name} template {template}")
        made.append(name)
        return database_url(postgres, name)

    yield clone
    for name in made:
        await admin.execute(f"drop database {name} with (force)")
    await admin.close()


def database_url(server: EmbeddedPostgres, name: str) -> str:
    """The URL of another database of the server."""
    return server.admin_dsn.replace("/memory?", f"/{name}?")


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return Path(__file__).parents[1]
