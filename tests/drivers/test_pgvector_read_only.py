"""A database that refuses what requests need: health says so, and recalls go on where they can."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.memory.base import DriverHealth
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.errors import ConfigurationError, DriverUnavailable, NotPermitted
from app.settings import (
    DatabaseSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_as_opened import status_within
from tests.drivers.test_pgvector_changed import all_verbs, run, used
from tests.wrappers.held import Held

TABLES = (
    "memories, memory_windows, memory_changes, global_knowledge, knowledge_windows, "
    "embedding_model, alembic_version"
)


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def of_limited(url: str) -> AsyncIterator[str]:
    """The URL of a role that may do what it is granted."""
    await run(url, "create role limited login", f"grant all on {TABLES} to limited")
    yield url.replace(f"{urlsplit(url).username}@", "limited@")
    await run(url, "drop owned by limited", "drop role limited")


async def make_read_only(url: str, value: str = "on") -> None:
    name = urlsplit(url).path.strip("/")
    await run(
        url,
        "set default_transaction_read_only = off",
        f"alter database {name} set default_transaction_read_only = {value}",
    )


async def refused(driver: PgvectorDriver) -> None:
    with pytest.raises(NotPermitted):
        await driver.store("ada", "kettle")
    with pytest.raises(NotPermitted):
        await driver.delete_user("ada")
    assert await driver.recall("ada", query="kettle")


async def only_reads(driver: PgvectorDriver) -> DriverHealth:
    await refused(driver)
    await status_within(driver, "degraded")
    await refused(driver)
    return await driver.health_check()


async def test_a_database_that_was_set_read_only_is_told_and_read(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url, pool_min_size=3)
    await used(driver)
    await make_read_only(url)
    # Sessions of before may write. Here are more than the pool has.
    await asyncio.gather(
        *(driver.store("ada", f"kettle {n}") for n in range(20)), return_exceptions=True
    )
    with capture_logs() as logs:
        health = await only_reads(driver)
    assert "default_transaction_read_only" in (health.detail or "")
    assert [log["event"] for log in logs if log["log_level"] != "info"] == ["postgresql_read_only"]
    again = await open_driver(url)
    await only_reads(again)
    await make_read_only(url, "off")
    for each in (driver, again):
        await status_within(each, "ok")
        await all_verbs(each)


async def test_a_store_alone_finds_that_a_database_may_be_written_again(
    url: str, open_driver: OpenDriver
) -> None:
    """Where nobody asks for the health."""
    await open_driver(url)
    await make_read_only(url)
    driver = await open_driver(url)
    with pytest.raises(NotPermitted):
        await driver.store("ada", "kettle")
    await make_read_only(url, "off")
    async with asyncio.timeout(5):
        while True:
            try:
                await driver.store("ada", "kettle")
                break
            except NotPermitted:
                await asyncio.sleep(0.2)


@pytest.mark.parametrize("table", ["memories", "global_knowledge", "knowledge_windows"])
@pytest.mark.parametrize("privilege", ["insert", "update", "delete"])
async def test_a_role_that_may_not_write_is_told_what_to_be_granted(
    url: str, of_limited: str, open_driver: OpenDriver, table: str, privilege: str
) -> None:
    driver = await open_driver(of_limited)
    await used(driver)
    await run(url, f"revoke {privilege} on {table} from limited")
    await status_within(driver, "degraded")
    detail = (await driver.health_check()).detail or ""
    assert f"the role needs {privilege} on {table}" in detail
    assert await driver.recall("ada", query="kettle")
    await run(url, f"grant {privilege} on {table} to limited")
    await all_verbs(driver)
    await driver.close()


@pytest.mark.parametrize("table", ["memories", "global_knowledge"])
async def test_a_table_of_another_owner_is_an_outage(
    url: str, open_driver: OpenDriver, table: str
) -> None:
    await run(url, "create role owning login", "create role another")
    try:
        await run(url, "grant all on schema public to owning, another")
        await run(url, *(f"alter table {each} owner to owning" for each in TABLES.split(", ")))
        await run(url, "alter function memories_changed() owner to owning")
        driver = await open_driver(url.replace(f"{urlsplit(url).username}@", "owning@"))
        await used(driver)
        await run(url, f"alter table {table} owner to another")
        with capture_logs() as logs:
            await status_within(driver, "unavailable")
        lacking = ("select", "insert", "update", "delete")
        needed = ", ".join(f"{privilege} on {table}" for privilege in lacking)
        assert f"the role needs {needed}" in logs[0]["reason"]
        with pytest.raises(DriverUnavailable):
            await driver.recall("ada", query="kettle")
        await run(url, f"alter table {table} owner to owning")
        await status_within(driver, "ok")
        await all_verbs(driver)
        await driver.close()
    finally:
        for role in ("owning", "another"):
            await run(url, f"drop owned by {role}", f"drop role {role}")


async def test_a_start_without_a_right_to_read_says_which(
    url: str, of_limited: str, open_driver: OpenDriver
) -> None:
    await run(url, "revoke select on alembic_version from limited")
    with pytest.raises(ConfigurationError, match="the role needs select on alembic_version"):
        await open_driver(of_limited)


async def test_failover_journals_for_a_primary_that_only_reads_and_goes_on_to_ask_it(
    url: str, open_driver: OpenDriver, embedder: Embedder, tmp_path: Path
) -> None:
    await (await open_driver(url)).store("ada", "copper kettle")
    await make_read_only(url)
    first = PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())
    settings = FailoverSettings(writes="journal", timeout=5)
    inner = [first, Held("second", embedder)]
    journal = JournalSettings(path=tmp_path)
    async with FailoverDriver(inner, settings, journal, embedder, Limits()) as failover:
        for n in range(5):
            await failover.store("ada", f"green tea {n}")
            found = await failover.recall("ada", query="copper kettle")
            assert found[0].content == "copper kettle"
        health = await failover.health_check()
        assert health.status == "degraded"
        assert "pgvector: PostgreSQL takes no writes" in (health.detail or "")
        assert health.facts["left_alone"] == []
        await make_read_only(url, "off")
        async with asyncio.timeout(20):
            while (await failover.health_check()).status != "ok":
                await asyncio.sleep(0.2)
        assert len((await failover.list_memories("ada")).memories) == 6


@pytest.mark.parametrize("wrapper", ["failover", "replicated"])
async def test_a_wrapper_does_not_say_ok_over_a_primary_that_refuses_every_store(
    url: str, open_driver: OpenDriver, embedder: Embedder, tmp_path: Path, wrapper: str
) -> None:
    await open_driver(url)
    await make_read_only(url)
    first = PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())
    inner, journal = [first, Held("second", embedder)], JournalSettings(path=tmp_path)
    driver: FailoverDriver | ReplicatedDriver
    if wrapper == "failover":
        driver = FailoverDriver(inner, FailoverSettings(), journal, embedder, Limits())
    else:
        driver = ReplicatedDriver(inner, ReplicatedSettings(), journal, embedder, Limits())
    async with driver:
        with pytest.raises(DriverUnavailable):
            await driver.store("ada", "kettle")
        assert (await driver.health_check()).status == "degraded"
