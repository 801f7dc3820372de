"""Revision 0006 on a filled database: memories keep their time, and what expired is gone below."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import asyncpg
import pytest

from alembic import command
from app.core.memory.records import Memory, NewKnowledge, NewMemory, Record, record_id
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.conftest import database_url
from tests.migrations.test_rows import to

NOON = datetime(2024, 2, 29, 12, tzinfo=timezone(timedelta(hours=9)))
FAR = datetime(2100, 1, 1, tzinfo=UTC)
LONG = "Ada waters the basil on Sundays. " * 100 + "Her kettle is made of copper."
INDEXES = """
    select indexname, indexdef from pg_indexes
    where schemaname = 'public' and tablename in ('memories', 'global_knowledge') order by 1
"""
EXPIRE = """
    update memories set expires_at = now() where content = 'gone';
    update global_knowledge set expires_at = now() where content = 'gone'
"""


@pytest.fixture
async def url(postgres: EmbeddedPostgres) -> str:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("drop database if exists with_times with (force)")
    await admin.execute("create database with_times")
    await admin.close()
    return database_url(postgres, "with_times")


def opened(url: str, embedder: Embedder) -> PgvectorDriver:
    return PgvectorDriver(DatabaseSettings.model_validate({"url": url}), embedder, Limits())


async def everything(driver: PgvectorDriver) -> dict[str, Record]:
    return {record_id(record): record async for record in driver.export_records()}


@pytest.mark.parametrize("partitioned", [False, True])
async def test_a_filled_database_goes_down_and_up_again(
    url: str, embedder: Embedder, root: Path, partitioned: bool
) -> None:
    await to(url, "head", command.upgrade)
    connection = await asyncpg.connect(url)
    if partitioned:
        await connection.execute((root / "alembic/distributed/partitioned.sql").read_text())
    indexes = await connection.fetch(INDEXES)
    async with opened(url, embedder) as driver:
        await driver.store_many(
            [
                NewMemory(user_id="ada", content="now", conversation_id="kitchen"),
                NewMemory(user_id="ada", content="then", occurred_at=NOON),
                NewMemory(user_id="ada", content=LONG, expires_at=FAR),
                NewMemory(user_id="ada", content="gone", expires_at=FAR),
            ]
        )
        await driver.store_knowledge_many(
            [
                NewKnowledge(content=LONG, category="kitchen", expires_at=FAR),
                NewKnowledge(content="gone", category="kitchen", expires_at=FAR),
            ]
        )
    await connection.execute(EXPIRE)
    async with opened(url, embedder) as driver:
        before = await everything(driver)
    assert len(before) == 4
    await to(url, "0005", command.downgrade)
    for table in ("memories", "global_knowledge"):
        contents = await connection.fetch(f"select content from {table}")  # noqa: S608
        assert "gone" not in [row["content"] for row in contents]
    await to(url, "head", command.upgrade)
    assert await connection.fetch(INDEXES) == indexes
    await connection.close()
    async with opened(url, embedder) as driver:
        after = await everything(driver)
        assert after == {
            key: replace(record, expires_at=None, occurred_at=record.created_at)
            if isinstance(record, Memory)
            else replace(record, expires_at=None)
            for key, record in before.items()
        }
        newest = [memory for memory in after.values() if isinstance(memory, Memory)]
        newest.sort(key=lambda memory: memory.memory_id, reverse=True)
        assert await driver.recall("ada") == newest
        assert (await driver.list_memories("ada")).memories == newest
        found = await driver.recall("ada", query="What is the kettle made of?")
        assert {memory.content for memory in found} == {"now", "then", LONG}
        moved = await driver.update(newest[0].memory_id, "ada", {"occurred_at": NOON, "ttl": 60})
        assert moved is not None
        assert (await driver.list_memories("ada")).memories == [*newest[1:], moved]
