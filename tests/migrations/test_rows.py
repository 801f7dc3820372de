"""Rows that were stored before a migration are there after it, and found as new ones are."""

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pgvector.asyncpg import register_vector

from alembic import command
from app import ranking
from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.conftest import database_url

STORE = """
    insert into memories
        (user_id, memory_id, conversation_id, content, tags, metadata, created_at, embedding)
    values ('ada', gen_random_uuid(), 'kitchen', $1, '{home}', $2, now(), $3)
"""


@pytest.fixture
async def url(postgres: EmbeddedPostgres) -> str:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("drop database if exists with_rows with (force)")
    await admin.execute("create database with_rows")
    await admin.close()
    return database_url(postgres, "with_rows")


async def to(url: str, revision: str, verb: Any) -> None:
    """Migrate, up or down."""
    config = migrations.alembic_config()
    config.attributes.update(dsn=url, dimension=lambda: 384)
    await asyncio.to_thread(verb, config, revision)


async def explained(driver: PgvectorDriver, query: str, start: str) -> ranking.Explanation:
    """Why the memory that begins so is recalled."""
    found = await driver.recall("ada", query=query, explain=True)
    (memory,) = (memory for memory in found if memory.content.startswith(start))
    assert memory.explanation is not None
    return memory.explanation


async def test_memories_of_the_first_schema_are_recalled_by_all_their_evidence(
    url: str, embedder: Embedder
) -> None:
    await to(url, "0001", command.upgrade)
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    for content, metadata in (
        ("Bob: Did you buy the copper kettle?", "{}"),
        ("Yes, on Friday.", '{"speaker": "Ada", "date": "8 May 2023"}'),
    ):
        vector = (await embedder.embed([content]))[0]
        await connection.execute(STORE, content, metadata, vector)
    await connection.close()
    await to(url, "head", command.upgrade)
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        question = await explained(driver, "What did Bob say of kettles?", "Bob: Did you")
        assert question.lexical > 0
        assert question.speaker > 0
        reply = await explained(driver, "Did Ada buy the kettle?", "Yes, on")
        assert reply.speaker > 0
        assert reply.form > ranking.STATEMENT
        dated = await explained(driver, "What happened on 8 May 2023?", "Yes, on")
        assert dated.date == ranking.DATE
        assert 0 < question.form <= ranking.LENGTH * 3
        before = [r async for r in driver.export_records() if isinstance(r, Memory)]
    await to(url, "0001", command.downgrade)
    await to(url, "head", command.upgrade)
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        after = [r async for r in driver.export_records() if isinstance(r, Memory)]
    assert after == before
    assert len(after) == 2


OF_THE_THIRD = (
    """
    insert into memories (user_id, memory_id, content, tags, metadata, created_at, embedding,
        occurred_at, asks, words)
    select 'user ' || n % 7, gen_random_uuid(), 'kettle ' || n, '{home}', '{"n": 1}',
        now() - n * interval '1 hour', $1, now(), false, to_tsvector('english', 'kettle ' || n)
    from generate_series(1, 500) as n
    """,
    """
    insert into global_knowledge (knowledge_id, category, content, metadata, created_at, embedding)
    select gen_random_uuid(), 'kitchen', 'kettle ' || n, '{}', now() - n * interval '1 hour', $1
    from generate_series(1, 500) as n
    """,
)
TABLES = ("memories", "global_knowledge")


async def fill_the_third(url: str, embedder: Embedder) -> None:
    """Bring a database to revision 0003, and give both tables rows."""
    await to(url, "0003", command.upgrade)
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    for statement in OF_THE_THIRD:
        await connection.execute(statement, (await embedder.embed(["kettle"]))[0])
    await connection.close()


async def every_row(url: str) -> list[list[asyncpg.Record]]:
    """All columns of both tables, as text, but the one that 0004 adds."""
    connection = await asyncpg.connect(url)
    found = [
        await connection.fetch(
            f"select (to_jsonb({table}) - 'updated_at')::text from {table} order by 1"  # noqa: S608
        )
        for table in TABLES
    ]
    await connection.close()
    return found


@pytest.mark.parametrize("partitioned", [False, True])
async def test_records_of_before_updates_have_the_version_of_their_creation(
    url: str, embedder: Embedder, root: Path, partitioned: bool
) -> None:
    await fill_the_third(url, embedder)
    connection = await asyncpg.connect(url)
    if partitioned:
        await connection.execute((root / "alembic/distributed/partitioned.sql").read_text())
    before = await every_row(url)
    await to(url, "0004", command.upgrade)
    assert await every_row(url) == before
    for table in TABLES:
        of_creation = f"select count(*) from {table} where updated_at = created_at"  # noqa: S608
        assert await connection.fetchval(of_creation) == 500
        with pytest.raises(asyncpg.NotNullViolationError):
            await connection.execute(f"update {table} set updated_at = null")  # noqa: S608
    await to(url, "head", command.upgrade)
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        (first, *_) = (await driver.list_memories("user 3")).memories
        assert first.updated_at == first.created_at
        updated = await driver.update(first.memory_id, "user 3", {"content": "copper tea"})
        assert updated is not None
        assert updated.created_at == first.created_at < updated.updated_at
        found = await driver.recall("user 3", query="tea", use_vector=False)
        assert [memory.memory_id for memory in found] == [first.memory_id]
        (known,) = await driver.recall_global_knowledge("kettle", 1)
        assert known.updated_at == known.created_at
        assert await driver.update_knowledge(known.knowledge_id, {"title": "Kettles"})
    stored = "select user_id, memory_id, content, created_at, embedding from memories order by 1, 2"
    as_updated = await connection.fetch(stored)
    await to(url, "0003", command.downgrade)
    assert await connection.fetch(stored) == as_updated
    await connection.close()


async def test_replicas_of_before_updates_go_on_storing_beside_the_upgrade(
    url: str, embedder: Embedder
) -> None:
    await fill_the_third(url, embedder)
    await to(url, "0004", command.upgrade)
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    for statement in OF_THE_THIRD:
        await connection.execute(statement, (await embedder.embed(["kettle"]))[0])
    await connection.close()
    await to(url, "head", command.upgrade)
    database = DatabaseSettings.model_validate({"url": url})
    async with PgvectorDriver(database, embedder, Limits()) as driver:
        records = [record async for record in driver.export_records()]
        assert len(records) == 2_000
        for record in records:
            if isinstance(record, Memory) and record.updated_at != record.created_at:
                break
        else:
            pytest.fail("no memory is of an old replica")
        assert await driver.update(record.memory_id, record.user_id, {"tags": ["a"]})


async def test_an_index_alone_answers_for_tables_that_a_migration_wrote_anew(
    url: str, embedder: Embedder
) -> None:
    await fill_the_third(url, embedder)
    await to(url, "head", command.upgrade)
    connection = await asyncpg.connect(url)
    for table in TABLES:
        visible = await connection.fetchval(
            "select relallvisible / relpages::float8 from pg_class where oid = $1::regclass", table
        )
        assert visible > 0.9  # the last pages may be empty
    await connection.close()
