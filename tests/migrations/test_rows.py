"""Rows that were stored before a migration are there after it, and found as new ones are."""

import asyncio
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
    config = migrations._config()
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
