"""What was stored is vacuumed soon, so that an index alone answers for it."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.core.memory.records import NewMemory
from app.drivers.pgvector import vacuum
from app.drivers.pgvector.sql import memories
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.wrappers.held import until

VACUUMS = "select vacuum_count from pg_stat_user_tables where relname = 'memories'"
ALL_VISIBLE = "select relallvisible = relpages from pg_class where oid = 'memories'::regclass"
QUIET = 0.2


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def connection(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let fewer rows be many, and a shorter while be quiet."""
    monkeypatch.setattr(vacuum, "ROWS", 100)
    monkeypatch.setattr(vacuum, "FEW_ROWS", 10)
    monkeypatch.setattr(vacuum, "QUIET_SECONDS", QUIET)


def kettles(count: int) -> list[NewMemory]:
    return [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(count)]


@pytest.mark.parametrize("count", [100, 10])
async def test_many_new_rows_are_vacuumed_at_once_and_a_few_when_no_more_come(
    url: str,
    connection: "asyncpg.Connection[asyncpg.Record]",
    open_driver: OpenDriver,
    count: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if count == vacuum.ROWS:
        monkeypatch.setattr(vacuum, "QUIET_SECONDS", 3_600)
    driver = await open_driver(url)
    await driver.store_many(kettles(count))

    async def vacuumed() -> bool:
        return bool(await connection.fetchval(VACUUMS))

    await until(vacuumed)
    assert await connection.fetchval(ALL_VISIBLE) is True


async def test_updates_count_as_stores_do(
    url: str, connection: "asyncpg.Connection[asyncpg.Record]", open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    stored = await driver.store("ada", "kettle")
    for n in range(10):
        await driver.update(stored.memory_id, "ada", {"tags": [str(n)]})

    async def vacuumed() -> bool:
        return bool(await connection.fetchval(VACUUMS))

    await until(vacuumed)


async def test_fewer_rows_are_left_to_autovacuum(
    url: str, connection: "asyncpg.Connection[asyncpg.Record]", open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    await driver.store_many(kettles(9))
    await asyncio.sleep(3 * QUIET)
    assert await connection.fetchval(VACUUMS) == 0


async def test_a_role_that_may_not_vacuum_leaves_it_to_autovacuum(
    url: str, connection: "asyncpg.Connection[asyncpg.Record]", open_driver: OpenDriver
) -> None:
    role = f"guest_{uuid4().hex}"
    await connection.execute(
        f"create role {role} login; grant all on all tables in schema public to {role}"
    )
    guest = urlsplit(url)._replace(netloc=f"{role}@").geturl()
    with capture_logs() as logs:
        driver = await open_driver(guest, migrate=False)
        await driver.store_many(kettles(100))
        await asyncio.sleep(3 * QUIET)
        assert len(await driver.recall("ada")) == 10
        await driver.close()
    await connection.execute(f"drop owned by {role}; drop role {role}")
    assert await connection.fetchval(VACUUMS) == 0
    assert [line for line in logs if line["log_level"] != "info"] == []


async def test_a_vacuum_that_fails_is_told_once_and_tried_again(
    url: str,
    connection: "asyncpg.Connection[asyncpg.Record]",
    open_driver: OpenDriver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(vacuum, "AFTER_FAILURE_SECONDS", 0.05)
    statement = memories.VACUUM
    monkeypatch.setattr(memories, "VACUUM", "select 1 / 0")
    with capture_logs() as logs:
        driver = await open_driver(url)
        await driver.store_many(kettles(100))
        await asyncio.sleep(0.5)
        monkeypatch.setattr(memories, "VACUUM", statement)

        async def vacuumed() -> bool:
            return bool(await connection.fetchval(VACUUMS))

        await until(vacuumed)
    assert [line["event"] for line in logs].count("vacuum_failed") == 1
