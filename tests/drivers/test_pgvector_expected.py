"""An empty database where there were records is told loudly."""

import asyncio
import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.drivers.pgvector import PgvectorDriver, looking, migrations
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_as_opened import status_within
from tests.drivers.test_pgvector_changed import may_fail_once, run


def told(logs: list[EventDict]) -> list[EventDict]:
    return [log for log in logs if log["event"] == "records_missing"]


async def test_where_records_are_expected_their_absence_is_an_error_and_degraded(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    with capture_logs() as logs:
        driver = await open_driver(await new_database(), expect_records=True)
        for _ in range(3):
            health = await driver.health_check()
            assert health.status == "degraded"
            assert health.detail == "there are no records, and DATABASE_EXPECT_RECORDS is true"
    assert [log["log_level"] for log in told(logs)] == ["error"]
    await driver.store("ada", "kettle")
    assert (await driver.health_check()).status == "ok"


async def test_knowledge_alone_is_records(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    await (await open_driver(url)).store_global_knowledge("tea", "drinks")
    with capture_logs() as logs:
        driver = await open_driver(url, expect_records=True)
    assert told(logs) == []
    assert (await driver.health_check()).status == "ok"


async def test_an_empty_database_is_fine_where_nobody_expects_records(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    with capture_logs() as logs:
        driver = await open_driver(await new_database())
        assert (await driver.health_check()).status == "ok"
    assert told(logs) == []


async def test_a_service_that_had_records_tells_that_a_schema_made_anew_has_none(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    await driver.store("ada", "kettle")
    assert (await driver.health_check()).status == "ok"
    await run(url, "drop schema public cascade", "create schema public")
    await migrations.upgrade(url, embedder.dimension)
    with capture_logs() as logs:
        await may_fail_once(lambda: driver.recall("ada", query="kettle"))
        assert await driver.recall("ada", query="kettle") == []
        await status_within(driver, "degraded")
    assert len(told(logs)) == 1


async def test_the_embedded_folder_remembers_that_there_were_records(
    embedder: Embedder, tmp_path: Path
) -> None:
    settings = DatabaseSettings(data_dir=tmp_path)

    async def statuses(*, store: bool = False, forget: bool = False) -> tuple[str, int]:
        with capture_logs() as logs:
            async with PgvectorDriver(settings, embedder, Limits()) as driver:
                if store:
                    await driver.store("ada", "kettle")
                if forget:
                    await driver.delete_user("ada")
                return (await driver.health_check()).status, len(told(logs))

    assert await statuses() == ("ok", 0)
    assert await statuses(store=True) == ("ok", 0)
    # What its users deleted is not missed.
    assert await statuses(forget=True) == ("ok", 0)
    assert await statuses() == ("ok", 0)
    shutil.rmtree(tmp_path / "postgresql")
    for _ in range(2):
        assert await statuses() == ("degraded", 1)
    assert await statuses(store=True) == ("ok", 1)
    assert await statuses() == ("ok", 0)


async def test_records_that_no_health_check_saw_are_missed_too(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(looking, "PAUSE_SECONDS", 0.02)
    settings = DatabaseSettings(data_dir=tmp_path)
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        await driver.store("ada", "kettle")
        async with asyncio.timeout(20):
            while not (tmp_path / "postgresql.records").exists():
                await asyncio.sleep(0.02)
    shutil.rmtree(tmp_path / "postgresql")
    with capture_logs() as logs:
        async with PgvectorDriver(settings, embedder, Limits()) as driver:
            health = await driver.health_check()
    assert health.status == "degraded"
    assert health.detail == "there are no records, and there were some in the database of before"
    assert len(told(logs)) == 1
