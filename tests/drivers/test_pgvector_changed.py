"""A database that changes under an open driver: one request may fail, the next ones work."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.drivers.pgvector import PgvectorDriver, migrations
from app.embedding import Embedder
from app.errors import DriverUnavailable
from app.settings import DatabaseSettings, FailoverSettings, JournalSettings, Limits, RecallSettings
from app.wrappers.failover import FailoverDriver
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.wrappers.alone import left_alone
from tests.wrappers.held import Held


async def run(url: str, *statements: str) -> None:
    """Run them one by one; one that a driver's look was in the way of, again."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            for last in (False, False, True):
                try:
                    await connection.execute(statement)
                    break
                except asyncpg.DeadlockDetectedError:
                    if last:
                        raise
    finally:
        await connection.close()


async def used(driver: PgvectorDriver) -> None:
    """Every statement below is prepared."""
    await driver.store("ada", "kettle")
    await driver.recall("ada", query="kettle")
    await driver.store_global_knowledge("tea", "drinks")
    await driver.recall_global_knowledge("tea")


async def all_verbs(driver: PgvectorDriver) -> None:
    stored = await driver.store("ada", "copper kettle")
    found = await driver.recall("ada", query="copper kettle")
    assert stored.memory_id in [memory.memory_id for memory in found]
    await driver.store_global_knowledge("green tea", "drinks")
    assert await driver.recall_global_knowledge("green tea")
    assert (await driver.health_check()).status == "ok"


async def may_fail_once(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(DriverUnavailable):
        await call()


async def test_a_schema_made_anew_is_found_by_the_next_request(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_min_size=3)
    await used(driver)
    await run(url, "drop schema public cascade", "create schema public")
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.store("ada", "first"))
    await all_verbs(driver)


async def test_an_extension_made_anew_is_found_by_the_next_request(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_min_size=3)
    await used(driver)
    await run(url, "drop extension vector cascade")
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    assert (await driver.health_check()).status == "unavailable"
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada", query="kettle")
    await run(url, "drop schema public cascade", "create schema public")
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    await all_verbs(driver)


async def test_a_language_that_was_away_for_a_while_is_the_one_that_was_set(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url, recall=RecallSettings(language="german"))
    await used(driver)
    await run(url, "drop schema public cascade", "create schema public")
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.store("ada", "kettle"))
    await all_verbs(driver)
    await run(url, "update embedding_model set language = 'english'")
    assert (await driver.health_check()).status == "unavailable"
    await run(url, "update embedding_model set language = 'german'")
    await all_verbs(driver)


@pytest.mark.parametrize("table", ["memories", "global_knowledge", "embedding_model"])
async def test_a_renamed_table_is_told_and_found_again(
    new_database: NewDatabase, open_driver: OpenDriver, table: str
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    await run(url, f"alter table {table} rename to elsewhere")
    assert (await driver.health_check()).status == "unavailable"
    await run(url, f"alter table elsewhere rename to {table}")
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    await all_verbs(driver)


async def test_another_empty_database_under_the_name_is_an_outage_until_it_is_migrated(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    await emptied(url)
    for _ in range(3):
        with pytest.raises(DriverUnavailable):
            await driver.recall("ada", query="kettle")
        assert (await driver.health_check()).status == "unavailable"
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    await all_verbs(driver)


async def emptied(url: str) -> None:
    name = url.rpartition("?")[0].rpartition("/")[2]
    await run(
        url.replace(f"/{name}?", "/postgres?"),
        f"drop database {name} with (force)",
        f"create database {name} template template0 encoding 'UTF8'",
    )


async def test_under_failover_the_next_driver_answers_for_a_database_made_anew(
    new_database: NewDatabase, embedder: Embedder, tmp_path: Path
) -> None:
    url = await new_database()
    first = PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())
    second = Held("second", embedder)
    journal = JournalSettings(path=tmp_path)
    settings = FailoverSettings(timeout=5)
    with left_alone():
        made = FailoverDriver([first, second], settings, journal, embedder, Limits())
    async with made as failover:
        await failover.store("ada", "kettle")
        await emptied(url)
        with suppress(DriverUnavailable):
            await failover.recall("ada", query="kettle")
        for _ in range(5):
            assert await failover.recall("ada", query="kettle") == []
            await asyncio.sleep(0.1)
        assert (await failover.health_check()).status == "degraded"


async def test_a_schema_made_from_nothing_is_told_loudly_and_only_then(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    await emptied(url)
    with capture_logs() as logs:
        await open_driver(url, MEMORY_MIGRATE=True)
        await open_driver(url, MEMORY_MIGRATE=True)
    told = [log for log in logs if log["event"] == "database_created"]
    assert len(told) == 1
    assert told[0]["log_level"] == "warning"
    assert "a new, empty database" in told[0]["detail"]
