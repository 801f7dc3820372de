"""PostgreSQL busy, slow, gone and back."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import perf_counter

import asyncpg
import psutil
import pytest

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import DriverTimeout, DriverUnavailable, PoolExhausted
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Nobody can read or write memories meanwhile."""
    connection = await asyncpg.connect(url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("lock table memories in access exclusive mode")
    try:
        yield
    finally:
        await transaction.rollback()
        await connection.close()


async def idle(driver: PgvectorDriver) -> bool:
    """Whether every connection of the pool is back."""
    facts = (await driver.health_check()).facts
    return bool(facts["pool_size"] == facts["pool_idle"])


async def test_an_exhausted_pool_waits_for_its_deadline_then_says_so(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_max_size=2, pool_timeout=0.5)
    assert await driver.recall("ada") == []
    async with locked(url):
        busy = [asyncio.create_task(driver.store("ada", f"kettle {n}")) for n in range(2)]
        await asyncio.sleep(0.3)
        started = perf_counter()
        with pytest.raises(PoolExhausted):
            await driver.recall("ada")
        assert 0.4 < perf_counter() - started < 3
        assert (await driver.health_check()).status == "degraded"
    await asyncio.gather(*busy)
    assert len(await driver.recall("ada")) == 2
    assert await idle(driver)


async def test_a_statement_past_its_deadline_is_cancelled_and_its_connection_returns(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url, timeout=0.3)
    async with locked(url):
        with pytest.raises(DriverTimeout):
            await driver.store("ada", "kettle")
        with pytest.raises(DriverTimeout):
            await driver.recall("ada", query="kettle")
    assert await driver.recall("ada") == []
    assert await idle(driver)


async def test_a_cancelled_caller_leaves_no_connection_behind(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_max_size=2)
    async with locked(url):
        calls = [asyncio.create_task(driver.recall("ada")) for _ in range(6)]
        await asyncio.sleep(0.2)
        for call in calls:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert await driver.recall("ada") == []
    assert await idle(driver)


async def test_connections_that_the_server_ended_are_replaced(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_min_size=3)
    stored = await driver.store("ada", "kettle")
    connection = await asyncpg.connect(url)
    await connection.fetch(
        "select pg_terminate_backend(pid) from pg_stat_activity"
        " where datname = current_database() and pid <> pg_backend_pid()"
    )
    await connection.close()
    await asyncio.sleep(0.1)
    for _ in range(4):
        assert await driver.recall("ada") == [stored]


async def test_a_frozen_postgres_is_unavailable_until_it_goes_on(
    embedder: Embedder,
    open_driver: OpenDriver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.driver._BUSY_SECONDS", 1.0)
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    try:
        await migrations.upgrade(server.dsn, embedder.dimension)
        driver = await open_driver(server.dsn, pool_max_size=2, pool_timeout=1, timeout=2)
        stored = await driver.store("ada", "kettle")
        postmaster = psutil.Process(server.pid)
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.suspend()
        try:
            recalls = [asyncio.create_task(driver.recall("ada")) for _ in range(4)]
            await asyncio.sleep(1.5)
            assert (await driver.health_check()).status == "unavailable"
            for error in await asyncio.gather(*recalls, return_exceptions=True):
                assert isinstance(error, DriverTimeout | DriverUnavailable)
        finally:
            for process in frozen:
                process.resume()
        async with asyncio.timeout(20):
            while (await driver.health_check()).status != "ok":
                await asyncio.sleep(0.1)
        assert await driver.recall("ada") == [stored]
        await driver.close()
    finally:
        await server.close()


async def test_a_closed_driver_stays_closed_until_it_is_opened(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    driver = await open_driver(await new_database())
    stored = await driver.store("ada", "kettle")
    await driver.close()
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada")
    await driver.open()
    assert await driver.recall("ada") == [stored]


async def test_a_schema_that_is_gone_is_not_healthy(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    connection = await asyncpg.connect(url)
    await connection.execute("drop table embedding_model")
    await connection.close()
    assert (await driver.health_check()).status == "unavailable"


async def test_killed_in_the_middle_a_batch_is_there_whole_or_not_at_all(
    embedder: Embedder, open_driver: OpenDriver, tmp_path: Path
) -> None:
    server = EmbeddedPostgres(tmp_path)
    await server.open()
    try:
        await migrations.upgrade(server.dsn, embedder.dimension)
        driver = await open_driver(server.dsn, pool_timeout=1)
        contents = ["kettle"] * 100

        async def store(n: int) -> str | None:
            try:
                await driver.store_many(
                    [NewMemory(user_id=f"user {n}", content=content) for content in contents]
                )
            except (DriverUnavailable, DriverTimeout):
                return None
            return f"user {n}"

        calls = [asyncio.create_task(store(n)) for n in range(12)]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        os.kill(server.pid, signal.SIGKILL)
        acknowledged = {user for user in await asyncio.gather(*calls) if user is not None}
        counts: dict[str, int] = {}
        async with asyncio.timeout(30):
            while len(counts) < len(calls):
                with suppress(DriverUnavailable, DriverTimeout):
                    n = len(counts)
                    counts[f"user {n}"] = len(await driver.recall(f"user {n}", top_k=100))
        assert acknowledged
        assert {user for user, count in counts.items() if count} >= acknowledged
        assert set(counts.values()) <= {0, 100}
        assert await idle(driver)
        await driver.close()
    finally:
        await server.close()
