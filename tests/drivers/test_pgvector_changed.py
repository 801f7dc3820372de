"""A database that changes under an open driver: one request may fail, the next ones work."""

from collections.abc import Awaitable, Callable

import asyncpg
import pytest

from app.core.memory.drivers.pgvector import PgvectorDriver
from app.database import migrations
from app.embedding import Embedder
from app.errors import DriverUnavailable
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
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
    try:
        await call()
    except DriverUnavailable as error:
        assert error.status == 503


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
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada", query="kettle")
    assert (await driver.health_check()).status == "unavailable"
    await run(url, "drop schema public cascade", "create schema public")
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
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
    name = url.rpartition("?")[0].rpartition("/")[2]
    await run(
        url.replace(f"/{name}?", "/postgres?"),
        f"drop database {name} with (force)",
        f"create database {name} template template0 encoding 'UTF8'",
    )
    for _ in range(3):
        with pytest.raises(DriverUnavailable):
            await driver.recall("ada", query="kettle")
        assert (await driver.health_check()).status == "unavailable"
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    await all_verbs(driver)
