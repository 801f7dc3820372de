"""Alembic owns the schema: up, down and up again, by one process at a time."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path
from string import ascii_letters

import asyncpg
import pytest
from alembic.util import CommandError
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.words import LARGEST_TUPLE
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase, database_url

TABLES = {
    *("memories", "memory_windows", "memory_changes"),
    *("global_knowledge", "knowledge_windows", "embedding_model", "alembic_version"),
}


async def tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
    await connection.close()
    return {row["tablename"] for row in rows}


async def empty_database(postgres: EmbeddedPostgres, name: str) -> str:
    """A database without any table."""
    connection = await asyncpg.connect(database_url(postgres, "postgres"))
    await connection.execute(f"drop database if exists {name}")
    await connection.execute(f"create database {name}")
    await connection.close()
    return database_url(postgres, name)


def alembic(root: Path, url: str, *revisions: str) -> None:
    """Go to each of the revisions with Alembic's command line, in one process."""
    code = (
        "import sys; from alembic.config import main\n"
        "for revision in sys.argv[1:]:\n"
        "    main(['downgrade' if revision == 'base' else 'upgrade', revision])"
    )
    subprocess.run(
        [sys.executable, "-c", code, *revisions],
        cwd=root,
        env={"DATABASE_URL": url, "PATH": "/usr/bin:/bin"},
        check=True,
        capture_output=True,
    )


async def test_the_command_line_goes_up_down_and_up_again_on_an_empty_database(
    postgres: EmbeddedPostgres, root: Path
) -> None:
    url = await empty_database(postgres, "by_command")
    await asyncio.to_thread(alembic, root, url, "head", "base", "head")
    assert await tables(url) == TABLES


async def test_a_filled_database_goes_down_and_up_again(
    new_database: NewDatabase, embedder: Embedder, root: Path
) -> None:
    url = await new_database()
    settings = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        stored = await driver.store("ada", "kettle")
        await driver.store_global_knowledge("kettle", "kitchen")
    await migrations.upgrade(url, embedder.dimension)
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        assert await driver.recall("ada") == [stored]
    await asyncio.to_thread(alembic, root, url, "base")
    await migrations.upgrade(url, embedder.dimension)
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        assert await driver.recall("ada") == []
        await driver.store("ada", "kettle")


async def test_two_processes_that_start_together_migrate_once(
    postgres: EmbeddedPostgres, root: Path
) -> None:
    url = await empty_database(postgres, "by_two")
    code = (
        "import asyncio, sys; from app.drivers.pgvector import migrations;"
        "asyncio.run(migrations.upgrade(sys.argv[1], 384))"
    )
    started = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", code, url, cwd=root)
        for _ in range(3)
    ]
    assert await asyncio.gather(*(process.wait() for process in started)) == [0, 0, 0]
    assert await tables(url) == TABLES


async def test_drivers_that_open_together_on_an_empty_database_all_serve(
    postgres: EmbeddedPostgres, embedder: Embedder
) -> None:
    url = await empty_database(postgres, "by_drivers")
    settings = DatabaseSettings(url=SecretStr(url)).model_copy(update={"migrate": True})
    drivers = [PgvectorDriver(settings, embedder, Limits()) for _ in range(3)]
    await asyncio.gather(*(driver.open() for driver in drivers))
    stored = [await driver.store("ada", "kettle") for driver in drivers]
    for driver in drivers:
        assert await driver.recall("ada") == stored[::-1]
        await driver.close()


@pytest.mark.parametrize("dimension", [3, 384, 1_024, 1_025, 2_000, 2_001, 4_000])
async def test_the_dimension_is_the_models(postgres: EmbeddedPostgres, dimension: int) -> None:
    url = await empty_database(postgres, "by_dimension")
    await migrations.upgrade(url, dimension)
    connection = await asyncpg.connect(url)
    vector = str([0.1] * dimension)
    # Four bytes each, and in no order that an index could compress.
    longest = "".join(chr(0x20000 + n * 7_919 % 0xA000) for n in range(256))
    tenants = (ascii_letters[:32], ascii_letters[:-33:-1])  # of a key, over a scoped driver's
    user = "".join(f"\x1f{tenant}\x1f" for tenant in tenants) + longest
    await connection.execute(
        "insert into memories (user_id, memory_id, conversation_id, content, tags, metadata,"
        " created_at, updated_at, embedding, context, outline)"
        " values ($5, gen_random_uuid(), $1, $2, $3, '{}', now(), now(), $4::text::vector,"
        " $4::text::vector, $6)",
        longest,
        "x" * 32_768,
        ["t" * 128] * 64,
        vector,
        user,
        random.Random(1).randbytes(LARGEST_TUPLE - len(user.encode())),
    )
    kept = await connection.fetchval("select vector_dims(embedding) from memories")
    await connection.close()
    assert kept == dimension


async def test_more_dimensions_than_pgvector_indexes_are_refused(
    postgres: EmbeddedPostgres,
) -> None:
    url = await empty_database(postgres, "by_dimension")
    with pytest.raises(CommandError, match="at most 4,000 dimensions, and the model has 4001"):
        await migrations.upgrade(url, 4_001)


@pytest.mark.parametrize("dimension", [384, 2_304])
async def test_the_index_of_the_knowledge_is_ivfflat_by_cosine(
    postgres: EmbeddedPostgres, dimension: int
) -> None:
    url = await empty_database(postgres, "by_index")
    await migrations.upgrade(url, dimension)
    connection = await asyncpg.connect(url)
    definition = await connection.fetchval(
        "select indexdef from pg_indexes where indexname = 'global_knowledge_embedding'"
    )
    await connection.close()
    assert "using ivfflat" in definition.lower()
    assert "halfvec_cosine_ops" in definition
