"""The journal on a full disk, wanted by others, and before a driver that refuses."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from time import time
from uuid import uuid4

import asyncpg
import pytest
import structlog
from pydantic import SecretStr
from sqlalchemy import text

from app.core.memory.base import DriverHealth
from app.core.memory.records import Kept
from app.core.memory.requests import Keep
from app.errors import ConfigurationError, DriverError, JournalUnavailable
from app.journal import database
from app.journal.dispatcher import Dispatcher
from app.journal.entries import Write
from app.journal.journal import Journal
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.wrappers.flaky import FlakyDriver, OneVector


class PickyDriver(FlakyDriver):
    """Fails to import what has a certain content."""

    error: Exception | None = None
    healthy = True

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if self.error is not None and any("poison" in record.content for record in wanted.records):
            raise self.error
        return await super()._keep(wanted)

    async def health_check(self) -> DriverHealth:
        if not self.healthy:
            return DriverHealth(driver=self.name, status="unavailable")
        return await super().health_check()


def replicated(path: Path, *drivers: FlakyDriver) -> ReplicatedDriver:
    journal = JournalSettings(path=path, timeout=1)
    return ReplicatedDriver(drivers, ReplicatedSettings(timeout=1), journal, OneVector(), Limits())


@pytest.fixture
def pair() -> tuple[FlakyDriver, PickyDriver]:
    random = Random(1)
    return FlakyDriver("first", random), PickyDriver("second", random)


async def until_equal(first: FlakyDriver, second: FlakyDriver) -> None:
    async with asyncio.timeout(20):
        while first.kept != second.kept:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("error", [DriverError(reason="too long"), ZeroDivisionError()])
async def test_what_a_healthy_driver_refuses_is_shown_and_what_follows_goes_on(
    tmp_path: Path, pair: tuple[FlakyDriver, PickyDriver], error: Exception
) -> None:
    first, second = pair
    second.error = error
    async with replicated(tmp_path, first, second) as driver:
        poison = await driver.store("ada", "poison")
        jar = await driver.store("ada", "A jar.")
        async with asyncio.timeout(20):
            while jar.memory_id not in second.kept:
                await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            while (await driver.members.journal.count()) > 1:
                await asyncio.sleep(0.02)
        health = await driver.health_check()
    assert health.status == "degraded"
    assert health.facts["pending"]["second"]["refused"] == 1
    assert poison.memory_id not in second.kept


@pytest.mark.parametrize("healthy", [True, False])
async def test_what_is_refused_because_of_the_drivers_own_state_is_tried_again(
    tmp_path: Path, pair: tuple[FlakyDriver, PickyDriver], healthy: bool
) -> None:
    first, second = pair
    second.error = ConfigurationError("another model") if healthy else DriverError()
    second.healthy = healthy
    async with replicated(tmp_path, first, second) as driver:
        await driver.store("ada", "poison")
        await asyncio.sleep(0.3)
        assert not second.kept
        second.error, second.healthy = None, True
        await until_equal(first, second)


async def test_a_file_is_one_process_s_own(
    tmp_path: Path, pair: tuple[FlakyDriver, PickyDriver]
) -> None:
    async with replicated(tmp_path, *pair):
        with pytest.raises(ConfigurationError, match=r"MEMORY_JOURNAL_PATH: .* is locked") as said:
            await replicated(tmp_path, *pair).open()
    assert "\n" not in str(said.value)
    async with replicated(tmp_path, *pair) as driver:
        await driver.store("ada", "A jar.")


async def test_a_full_disk_refuses_writes_and_loses_none(
    tmp_path: Path, pair: tuple[FlakyDriver, PickyDriver]
) -> None:
    first, second = pair
    async with replicated(tmp_path, first, second) as driver:
        second.away = True
        kept = [await driver.store("ada", "A jar.")]

        async def pages(count: int) -> None:
            async with driver.members.journal.database.begin() as connection:
                await connection.execute(text(f"pragma max_page_count = {count}"))

        await pages(1)  # as many as there are
        refused = False
        while not refused:
            try:
                kept += [await driver.store("ada", "A jar." * 100)]
            except JournalUnavailable:
                refused = True
        assert len(await driver.recall("ada", top_k=100)) == len(kept)
        second.away = False
        await until_equal(first, second)
        await pages(1_000_000)
        kept.append(await driver.store("ada", "A jar."))
        await until_equal(first, second)
    assert set(first.kept) == {memory.memory_id for memory in kept}


async def test_a_dispatcher_stops_whenever_it_is_told_to(
    tmp_path: Path, pair: tuple[FlakyDriver, PickyDriver]
) -> None:
    journal = Journal(JournalSettings(path=tmp_path), "main")
    await journal.open(["first"])
    dispatcher = Dispatcher(journal, pair[0], wrapper="main", interval=1, timeout=1)
    for n in range(30):
        dispatcher.start()
        await asyncio.sleep(0.002 * (n % 5))
        dispatcher.wake()
        async with asyncio.timeout(5):
            await dispatcher.stop()
    await journal.close()


async def test_cancelled_callers_cost_a_file_no_connection(tmp_path: Path) -> None:
    journal = Journal(JournalSettings(path=tmp_path, timeout=2), "main")
    await journal.open(["first"])
    for n in range(40):
        tasks = [asyncio.create_task(journal.lag()) for _ in range(5)]
        await asyncio.sleep(0.0005 * (n % 8))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert await journal.lag() == {}
    await journal.close()


async def test_a_call_that_is_cancelled_with_its_transaction_is_cancelled(tmp_path: Path) -> None:
    """As at the end of a loop: a dispatcher that took it for an error would go on for ever."""
    journal = Journal(JournalSettings(path=tmp_path), "main")
    await journal.open(["first"])
    async with journal.database.begin():  # the only connection
        call = asyncio.create_task(journal.lag())
        await asyncio.sleep(0.05)
        for task in (*journal.database._running, call):
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    await journal.close()


async def test_closing_while_a_file_is_opened_leaves_no_task(tmp_path: Path) -> None:
    for n in range(40):
        journal = Journal(JournalSettings(path=tmp_path / str(n)), "main")
        before = asyncio.all_tasks()
        opening = asyncio.create_task(journal.open(["first"]))
        await asyncio.sleep(0.001 * n)
        closing = asyncio.create_task(journal.close())
        await asyncio.sleep(0.0005 * (n % 4))
        closing.cancel()
        await journal.close()
        await asyncio.wait([opening, closing], timeout=5)
        left = asyncio.all_tasks() - before
        if left:
            await asyncio.wait(left, timeout=2)
        assert not [task for task in left if not task.done()]
        assert opening.cancelled() or opening.exception() is None


async def test_those_who_share_a_journal_go_by_its_clock(
    tmp_path: Path, new_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "time", lambda: 0.0)  # as far off as can be
    url = SecretStr(await new_database())
    journal = Journal(JournalSettings(url=url, path=tmp_path), "main")
    await journal.open(["first"])
    try:
        deleted = Write(verb="delete", user_id="ada", record_id=str(uuid4()))
        [made] = await journal.append([deleted], ["first"])
        assert abs(time() - made.created_at) < 30
        assert [entry.seq for entry in await journal.to_deliver("first", None, 10)] == [made.seq]
    finally:
        await journal.close()


@pytest.mark.parametrize(
    "change",
    [
        "drop table journal_deliveries, journal_entries, journal_tombstones, journal_targets",
        "drop table journal_targets",
        "drop schema public cascade; create schema public",
    ],
)
async def test_a_journal_whose_tables_are_gone_has_them_again_at_the_next_call(
    new_database: NewDatabase, pair: tuple[FlakyDriver, PickyDriver], change: str
) -> None:
    first, second = pair
    with structlog.testing.capture_logs() as logs:
        async with changed(await new_database(), pair, change) as driver:
            refused = await stores_refused(driver, 8)
            assert refused <= 3  # on a busy machine it takes a moment
            await until_equal(first, second)
            assert len(second.kept) == 9 - refused
    assert "journal_changed" in {line["event"] for line in logs}


@pytest.mark.parametrize(
    ("change", "back"),
    [
        (
            "alter table journal_entries rename to kept",
            "alter table kept rename to journal_entries",
        ),
        (
            "alter table journal_entries rename column records to kept",
            "alter table journal_entries rename column kept to records",
        ),
    ],
)
async def test_a_journal_that_can_t_be_had_again_says_so_until_it_can(
    new_database: NewDatabase, pair: tuple[FlakyDriver, PickyDriver], change: str, back: str
) -> None:
    first, second = pair
    url = await new_database()
    async with changed(url, pair, change) as driver:
        assert await stores_refused(driver, 4) == 4
        assert (await driver.health_check()).status == "degraded"
        await execute(url, back)
        assert await stores_refused(driver, 4) == 0
        await until_equal(first, second)
        assert (await driver.health_check()).status == "ok"


@asynccontextmanager
async def changed(
    url: str, pair: tuple[FlakyDriver, PickyDriver], change: str
) -> AsyncIterator[ReplicatedDriver]:
    """Replicas with one memory, whose journal's database was changed after it was opened."""
    journal = JournalSettings(url=SecretStr(url), timeout=2)
    replicas = ReplicatedDriver(pair, ReplicatedSettings(timeout=1), journal, OneVector(), Limits())
    async with replicas as driver:
        await driver.store("ada", "A jar.")
        await until_equal(*pair)
        await execute(url, change)
        yield driver


async def execute(url: str, statement: str) -> None:
    """As often as it meets a dispatcher that locks the tables in another order."""
    connection = await asyncpg.connect(url)
    try:
        while True:
            with suppress(asyncpg.DeadlockDetectedError):
                await connection.execute(statement)
                return
    finally:
        await connection.close()


async def stores_refused(driver: ReplicatedDriver, count: int) -> int:
    """Of so many stores."""
    refused = 0
    for _ in range(count):
        try:
            await driver.store("ada", "A kettle.")
        except JournalUnavailable:
            refused += 1
        await asyncio.sleep(0.2)
    return refused
