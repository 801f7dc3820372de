"""A restore under a running service with MEMORY_MIGRATE=true: the service keeps out of it."""

import asyncio
import subprocess
from contextlib import suppress

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.drivers.pgvector import PgvectorDriver
from app.errors import DriverUnavailable
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_as_opened import ANEW, program, status_within
from tests.drivers.test_pgvector_changed import all_verbs, emptied, run, used


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


async def steps(url: str) -> list[str]:
    """The statements of a restore with --clean --if-exists, in order."""
    options = ["--clean", "--if-exists", "--inserts", f"--dbname={url}"]
    dumped = await asyncio.to_thread(
        subprocess.run, [program("pg_dump"), *options], check=True, capture_output=True, text=True
    )
    lines = [line for line in dumped.stdout.splitlines() if not line.startswith(("--", "\\"))]
    found: list[str] = []
    for part in "\n".join(lines).split(";\n"):
        if found and found[-1].count("$$") % 2:  # amid a function
            found[-1] += f";\n{part}"
        else:
            found.append(part)
    return [step for step in found if step.strip()]


async def models(url: str) -> int:
    """How many rows remember a model."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval("select count(*) from embedding_model"))
    finally:
        await connection.close()


async def asked(driver: PgvectorDriver) -> None:
    await driver.health_check()
    with suppress(DriverUnavailable):
        await driver.recall("ada", query="kettle")


async def test_a_restore_may_be_looked_at_after_every_step(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url, migrate=True)
    await used(driver)
    kept = [memory.memory_id for memory in await driver.recall("ada")]
    restoring = await asyncpg.connect(url)
    for step in await steps(url):
        await restoring.execute(step)
        await asked(driver)
    await restoring.close()
    await status_within(driver, "ok")
    assert [memory.memory_id for memory in await driver.recall("ada")] == kept
    assert await models(url) == 1
    await all_verbs(driver)


async def test_a_key_that_is_missing_is_told_and_no_row_is_added(
    url: str, open_driver: OpenDriver
) -> None:
    """As where a restore ended half-way."""
    driver = await open_driver(url)
    await used(driver)
    await run(url, "alter table embedding_model drop constraint embedding_model_pkey")
    with capture_logs() as logs:
        for _ in range(3):
            await asked(driver)
            assert (await driver.health_check()).status == "unavailable"
    assert "its primary key" in logs[0]["reason"]
    assert await models(url) == 1
    await run(url, "alter table embedding_model add primary key (only_row)")
    await status_within(driver, "ok")


@pytest.mark.parametrize("anew", ["schema", "database"])
async def test_an_empty_database_under_the_name_is_migrated_after_a_while_and_told(
    url: str, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch, anew: str
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.checks._EMPTY_SECONDS", 2.0)
    driver = await open_driver(url, migrate=True)
    await used(driver)
    assert (await driver.health_check()).status == "ok"
    await (emptied(url) if anew == "database" else run(url, *ANEW))
    with capture_logs() as logs:
        for _ in range(3):
            await asked(driver)
            assert (await driver.health_check()).status == "unavailable"
        await status_within(driver, "degraded")  # its records are gone
    told = [log["event"] for log in logs]
    assert told.count("postgresql_refused") == 1
    assert told.count("database_created") == 1
    assert told.count("records_missing") == 1
    await all_verbs(driver)
    await run(url, *ANEW)  # and then it counts from the beginning
    for _ in range(3):
        await asked(driver)
        assert (await driver.health_check()).status == "unavailable"


async def test_a_database_with_anything_in_it_is_not_migrated_under_a_running_service(
    url: str, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.checks._EMPTY_SECONDS", 0.0)
    driver = await open_driver(url, migrate=True)
    await used(driver)
    await run(url, *ANEW, "create table embedding_model (only_row boolean)")
    for _ in range(3):
        await asked(driver)
        assert (await driver.health_check()).status == "unavailable"
    assert await models(url) == 0
    await run(url, *ANEW)
    await all_verbs(await open_driver(url, migrate=True))
