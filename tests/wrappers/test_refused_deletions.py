"""A deletion of a user that a driver refuses, is tried again, and takes nothing stored after it."""

import asyncio
from contextlib import suppress

import pytest

from app.errors import DriverError
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.alone import left_alone
from tests.wrappers.flaky import Journalled, OneVector, settled
from tests.wrappers.refusing import RefusingDriver
from tests.wrappers.test_failover_races import Writes
from tests.wrappers.test_replicated_races import Acknowledge

Drivers = tuple[RefusingDriver, RefusingDriver]


@pytest.fixture
def journal(file_or_shared: JournalSettings) -> JournalSettings:
    return file_or_shared


@pytest.fixture
def drivers() -> Drivers:
    return RefusingDriver("first"), RefusingDriver("second")


def replicated(
    drivers: Drivers, journal: JournalSettings, acknowledge: Acknowledge = "primary"
) -> ReplicatedDriver:
    settings = ReplicatedSettings(timeout=1, acknowledge=acknowledge)
    return ReplicatedDriver(drivers, settings, journal, OneVector(), Limits())


def failover(drivers: Drivers, journal: JournalSettings, writes: Writes) -> FailoverDriver:
    settings = FailoverSettings(writes=writes, timeout=2.0)
    with left_alone():
        return FailoverDriver(drivers, settings, journal, OneVector(), Limits())


async def refused(driver: Journalled, name: str) -> None:
    """Wait until the driver of that name has refused a write."""
    async with asyncio.timeout(10):
        while not (lag := (await driver.members.journal.lag()).get(name)) or not lag.dead_letters:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("acknowledge", ["primary", "all"])
@pytest.mark.parametrize("who", [0, 1])
async def test_replicated_keeps_on_every_driver_what_is_stored_after_it(
    journal: JournalSettings, drivers: Drivers, who: int, acknowledge: Acknowledge
) -> None:
    refusing = drivers[who]
    async with replicated(drivers, journal, acknowledge) as driver:
        earlier = await driver.store("ada", "A jar.")
        await settled(driver)
        refusing.refuses = True
        with suppress(DriverError):  # the primary's own refusal
            await driver.delete_user("ada")
        await refused(driver, refusing.name)
        later = await driver.store("ada", "A lid.")
        other = await driver.store("bob", "A cup.")
        async with asyncio.timeout(20):  # the dispatchers do what they can
            while not all({later.memory_id, other.memory_id} <= set(each.kept) for each in drivers):
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        assert (await driver.members.journal.lag())[refusing.name].count == 1
        assert earlier.memory_id in refusing.kept
    refusing.refuses = False
    async with replicated(drivers, journal) as driver:
        await settled(driver)
    for each in drivers:
        assert set(each.kept) == {later.memory_id, other.memory_id}


async def test_a_store_that_comes_with_the_deletion_does_not_wait_for_it(
    journal: JournalSettings, drivers: Drivers
) -> None:
    first, second = drivers
    async with replicated(drivers, journal) as driver:
        await driver.store("ada", "A jar.")
        await settled(driver)
        second.refuses = second.away = True
        await driver.delete_user("ada")
        later = await driver.store("ada", "A lid.")
        second.away = False
        driver.members.dispatchers["second"].wake(back=True)
        await refused(driver, "second")
        await asyncio.sleep(0.3)
        assert (await driver.members.journal.lag())["second"].count == 1
    second.refuses = False
    async with replicated(drivers, journal) as driver:
        await settled(driver)
    assert set(first.kept) == set(second.kept) == {later.memory_id}


@pytest.mark.parametrize("who", [0, 1])
async def test_failover_keeps_what_is_stored_after_it(
    journal: JournalSettings, drivers: Drivers, who: int
) -> None:
    first, second = drivers
    async with failover(drivers, journal, "journal") as driver:
        await driver.store("ada", "A jar.")
        drivers[who].refuses = True
        with pytest.raises(DriverError, match="refused"):
            await driver.delete_user("ada")
        await refused(driver, drivers[who].name)
        later = await driver.store("ada", "A lid.")
        await asyncio.sleep(0.3)
        assert [m.memory_id for m in await driver.recall("ada")] == [later.memory_id]
    drivers[who].refuses = False
    async with failover(drivers, journal, "journal") as driver:
        await settled(driver)
        assert [m.memory_id for m in await driver.recall("ada")] == [later.memory_id]
    assert set(first.kept) == {later.memory_id}
    assert not second.kept


async def test_failover_without_journalled_stores_takes_them_all_the_same(
    journal: JournalSettings, drivers: Drivers
) -> None:
    first, _ = drivers
    async with failover(drivers, journal, "primary") as driver:
        await driver.store("ada", "A jar.")
        first.refuses = True
        with pytest.raises(DriverError, match="refused"):
            await driver.delete_user("ada")
        await refused(driver, "first")
        later = await driver.store("ada", "A lid.")
        other = await driver.store("bob", "A cup.")
    first.refuses = False
    async with failover(drivers, journal, "primary") as driver:
        await settled(driver)
    assert set(first.kept) == {later.memory_id, other.memory_id}
