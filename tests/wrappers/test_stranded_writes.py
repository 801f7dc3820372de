"""Writes that wait for a driver that is not held any more: told at once, and lost by nobody."""

import asyncio
from collections.abc import AsyncIterator
from random import Random
from urllib.parse import parse_qs, urlsplit

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.errors import ConfigurationError, JournalUnavailable
from app.journal import upkeep
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.service.door import Door
from tests.wrappers.flaky import FlakyDriver, OneVector, settled


@pytest.fixture
def journal(file_or_shared: JournalSettings) -> JournalSettings:
    return file_or_shared


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    door = Door()
    yield door
    await door.close()


def inner(*names: str) -> list[FlakyDriver]:
    return [FlakyDriver(name, Random(1), delay=0.001) for name in names]


def replicated(journal: JournalSettings, drivers: list[FlakyDriver]) -> ReplicatedDriver:
    return ReplicatedDriver(
        drivers, ReplicatedSettings(timeout=1), journal, OneVector(), Limits(), "main"
    )


def failover(journal: JournalSettings, drivers: list[FlakyDriver]) -> FailoverDriver:
    settings = FailoverSettings(writes="journal", timeout=0.5)
    return FailoverDriver(drivers, settings, journal, OneVector(), Limits(), "main")


async def leave_waiting(
    journal: JournalSettings, drivers: list[FlakyDriver], count: int, *away: int
) -> None:
    """Store so many while some are away, and stop."""
    async with replicated(journal, drivers) as driver:
        for n in away:
            drivers[n].away = True
        for _ in range(count):
            await driver.store("ada", "A jar.")
        while (await driver.members.journal.lag()).keys() != {drivers[n].name for n in away}:
            await asyncio.sleep(0.02)


async def test_a_driver_that_is_renamed_while_writes_wait_for_it_stops_the_start(
    journal: JournalSettings,
) -> None:
    first, second, third = drivers = inner("first", "second", "third")
    await leave_waiting(journal, drivers, 1, 1)
    second.name = "other"
    with pytest.raises(ConfigurationError) as said:
        await replicated(journal, [first, second]).open()
    assert said.value.reason == (
        "drivers.main.inner: 1 write waits for 'second', which is not held any more: hold it "
        "until they are delivered, or see `memory-driver journal`"
    )
    second.name = "second"
    await leave_waiting(journal, drivers, 2, 1, 2)
    with pytest.raises(ConfigurationError, match="3 writes wait for 'second' and 2 writes wait"):
        await failover(journal, [first]).open()
    second.away = third.away = False
    async with replicated(journal, drivers) as driver:
        await settled(driver)
    async with replicated(journal, [first, third]) as driver:
        await driver.store("ada", "A lid.")
        await settled(driver)
    assert first.kept == third.kept
    assert len(second.kept) == 3


async def test_a_journal_that_comes_back_with_such_writes_takes_none_until_they_are_given_up(
    new_database: NewDatabase, door: Door
) -> None:
    url = await new_database()
    first, second, third = inner("first", "second", "third")
    direct = JournalSettings(url=SecretStr(url))
    await leave_waiting(direct, [first, second], 3, 1)
    before = dict(first.kept)
    away = JournalSettings(
        url=SecretStr(f"postgresql://memory@127.0.0.1:{door.port}{urlsplit(url).path}"),
        timeout=2,
    )
    reading = failover(away, [first, third])
    with capture_logs() as logs:
        async with replicated(away, [first, third]) as driver, reading:
            with pytest.raises(JournalUnavailable, match="can't be reached"):
                await driver.store("ada", "A lid.")
            await door.open(parse_qs(urlsplit(url).query)["host"][0] + "/.s.PGSQL.5432")
            reason = ""
            async with asyncio.timeout(20):
                while "3 writes wait" not in reason:  # until it is found again
                    with pytest.raises(JournalUnavailable) as lost:
                        await driver.store("ada", "A lid.")
                    with pytest.raises(JournalUnavailable):
                        await reading.delete_user("ada")
                    reason = lost.value.reason
                    await asyncio.sleep(0.02)
            for _ in range(5):
                with pytest.raises(JournalUnavailable, match="not configured correctly") as said:
                    await driver.store("ada", "A lid.")
                with pytest.raises(JournalUnavailable):
                    await driver.delete_user("ada")
                with pytest.raises(JournalUnavailable):
                    await reading.delete_user("ada")
                await asyncio.sleep(0.1)
            assert "3 writes wait for 'second'" in said.value.reason
            assert first.kept == before
            assert not third.kept
            recalled = await reading.recall("ada")
            assert {memory.memory_id for memory in recalled} == before.keys()
            for health in (await driver.health_check(), await reading.health_check()):
                assert health.status == "degraded"
                assert (
                    health.detail
                    == "The service is not configured correctly; the log has the reason."
                )

            assert await upkeep.drop(direct, "main", "second") == 3
            async with asyncio.timeout(10):
                while (await driver.health_check()).status != "ok":
                    await asyncio.sleep(0.02)
            later = await driver.store("ada", "A lid.")
            await settled(driver)
            assert later.memory_id in first.kept
            assert later.memory_id in third.kept
    refused = [line for line in logs if line["event"] == "journal_refused"]
    assert len(refused) == 2  # each wrapping driver has its own
    assert {line["log_level"] for line in refused} == {"error"}
    assert not [line for line in logs if line["event"] == "delivery_failed"]


async def test_metrics_and_health_show_every_driver_that_something_waits_for(
    new_database: NewDatabase,
) -> None:
    journal = JournalSettings(url=SecretStr(await new_database()))
    drivers = inner("first", "second", "third")

    def pending() -> float | None:
        labels = {"wrapper": "main", "driver": "third"}
        return REGISTRY.get_sample_value("memory_driver_journal_pending", labels)

    async with replicated(journal, drivers[:2]) as driver:
        await leave_waiting(journal, drivers, 2, 2)  # another process, which holds it still
        health = await driver.health_check()
        assert pending() == 2
        assert health.facts["pending"]["third"]["count"] == 2
        assert health.detail == "writes wait for third (2, not held any more)"
        await upkeep.drop(journal, "main", "third")
        assert (await driver.health_check()).status == "ok"
        assert pending() == 0


async def test_what_is_renamed_is_delivered_once(
    journal: JournalSettings,
) -> None:
    first, second, third = inner("first", "second", "third")
    async with replicated(journal, [first, second, third]) as driver:
        kept = await driver.store("ada", "A jar.")
        await settled(driver)
        second.away = third.away = True
        await driver.delete_user("ada")
        later = [await driver.store("ada", "A lid.") for _ in range(2)]
        await driver.delete(later[0].memory_id, "ada")
        third.away = False
        driver.members.dispatchers["third"].wake(back=True)
        async with asyncio.timeout(10):
            while "third" in await driver.members.journal.lag():
                await asyncio.sleep(0.02)
        third.away = True
        both = await driver.store("bob", "A cup.")
    waits = await upkeep.all_waiting(journal)
    assert {driver: lag.count for (_, driver), lag in waits.items()} == {"second": 5, "third": 1}

    assert await upkeep.rename(journal, "main", "second", "fourth") == 5
    second.name, second.away, third.away = "fourth", False, False
    async with replicated(journal, [first, second, third]) as driver:
        await settled(driver)
    for each in (first, second, third):
        assert set(each.kept) == {later[1].memory_id, both.memory_id}
    assert kept.memory_id not in second.kept


async def test_what_waits_for_both_names_waits_once(journal: JournalSettings) -> None:
    first, second, third = drivers = inner("first", "second", "third")
    await leave_waiting(journal, drivers, 3, 1, 2)
    assert await upkeep.rename(journal, "main", "second", "third") == 3
    waits = await upkeep.all_waiting(journal)
    assert {driver: lag.count for (_, driver), lag in waits.items()} == {"third": 3}
    third.away = False
    async with replicated(journal, [first, third]) as driver:
        await settled(driver)
    assert first.kept == third.kept
    assert not second.kept


async def test_what_is_given_up_leaves_nothing_but_its_tombstones(
    journal: JournalSettings,
) -> None:
    first, second, third = drivers = inner("first", "second", "third")
    async with replicated(journal, drivers) as driver:
        second.away = third.away = True
        stored = await driver.store("ada", "A jar.")
        kept = await driver.store("ada", "A lid.")
        await driver.delete(stored.memory_id, "ada")
    assert await upkeep.drop(journal, "main", "second") == 3
    third.away = False
    async with replicated(journal, [first, third]) as driver:
        await settled(driver)
        assert await driver.members.journal.count() == 0
    assert set(first.kept) == set(third.kept) == {kept.memory_id}
    assert not second.kept
