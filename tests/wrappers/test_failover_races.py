"""Writes accepted while the first driver comes and goes: none lost, none back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Literal

import pytest

from app import tasks
from app.errors import DriverUnavailable
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.failover import FailoverDriver
from tests.storm import times
from tests.wrappers.alone import left_alone
from tests.wrappers.flaky import FlakyDriver, History, OneVector, settled, storm

ROUNDS = times(2, 40)
Writes = Literal["primary", "journal"]


@asynccontextmanager
async def failover(
    journal: JournalSettings, random: Random, *, writes: Writes = "journal", failures: int = 3
) -> AsyncIterator[tuple[FailoverDriver, list[FlakyDriver]]]:
    drivers = [FlakyDriver(name, random) for name in ("first", "second")]
    settings = FailoverSettings(writes=writes, timeout=0.5)
    with left_alone(after=failures):
        made = FailoverDriver(drivers, settings, journal, OneVector(), Limits())
    async with made as driver:
        yield driver, drivers


@pytest.fixture
def journal(file_or_shared: JournalSettings) -> JournalSettings:
    return file_or_shared


async def come_and_go(driver: FlakyDriver, random: Random) -> None:
    while True:
        await asyncio.sleep(random.uniform(0, 0.04))
        driver.away = not driver.away


@pytest.mark.parametrize("writes", ["primary", "journal"])
async def test_nothing_accepted_is_lost_while_the_first_driver_comes_and_goes(
    journal: JournalSettings, writes: Writes
) -> None:
    random = Random(7)
    async with failover(journal, random, writes=writes) as (driver, drivers):
        first = drivers[0]
        for n in range(ROUNDS):
            history = History(driver)
            first.lost = 0.2 if writes == "journal" else 0.0
            coming = asyncio.create_task(come_and_go(first, random))
            for _ in range(3):
                await storm(history, random, [f"user {n}.{m}" for m in range(2)], 25)
            coming.cancel()
            first.away, first.lost = False, 0.0
            await settled(driver)
            history.check(first.kept)


@pytest.mark.parametrize("writes", ["primary", "journal"])
async def test_a_store_after_a_delete_user_that_still_waits_survives_it(
    journal: JournalSettings, writes: Writes
) -> None:
    async with failover(journal, Random(3), writes=writes) as (driver, drivers):
        history = History(driver)
        await history.store("ada")
        old = set(history.stores)
        drivers[0].away = True
        await history.delete_user("ada")
        drivers[0].away = False
        history.stores.clear()
        while not history.stores:
            await history.store("ada")
        assert [m.memory_id for m in await driver.recall("ada")] == list(history.stores)
        await settled(driver)
        assert set(drivers[0].kept) == set(history.stores)
        assert old.isdisjoint(drivers[0].kept)


async def test_a_record_deleted_before_it_was_journalled_is_not_back(
    journal: JournalSettings,
) -> None:
    """Its answer was lost, so it is journalled; somebody saw it on the driver and deleted it."""
    async with failover(journal, Random(3)) as (driver, drivers):
        first = drivers[0]
        first.delay, first.lost = 0.3, 0.5
        first.random = Random(11)  # the first answer is lost after the write was made
        storing = asyncio.create_task(driver.store("ada", "A jar."))
        async with asyncio.timeout(5):
            while not first.kept:
                await asyncio.sleep(0)
        first.lost, first.delay = 0.0, 0.0
        (key,) = first.kept
        assert await driver.delete(key, "ada")
        stored = await storing
        assert stored.memory_id == key
        await settled(driver)
        assert not first.kept


async def test_close_ends_though_a_driver_loses_the_cancellation(
    journal: JournalSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.05)
    asked = asyncio.Event()

    async def lose(_: object) -> None:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise DriverUnavailable from None

    async with failover(journal, Random(23)) as (driver, drivers):
        drivers[0].away = True
        await driver.store("ada", "A jar.")
        monkeypatch.setattr(drivers[0], "_keep", lose)
        await asked.wait()
        async with asyncio.timeout(20):
            await driver.close()
