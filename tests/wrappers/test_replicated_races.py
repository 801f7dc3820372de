"""Writes that overtake each other end the same on every driver."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from pydantic import SecretStr

from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.storm import times
from tests.wrappers.flaky import FlakyDriver, History, OneVector, settled, storm

ROUNDS = times(2, 40)
Acknowledge = Literal["primary", "quorum", "all"]


@asynccontextmanager
async def replicated(
    journal: JournalSettings,
    random: Random,
    *,
    acknowledge: Acknowledge = "primary",
    seconds: float = 0.3,
    inner: list[FlakyDriver] | None = None,
) -> AsyncIterator[tuple[ReplicatedDriver, list[FlakyDriver]]]:
    drivers = inner or [FlakyDriver(name, random) for name in ("first", "second", "third")]
    settings = ReplicatedSettings(acknowledge=acknowledge, timeout=seconds)
    async with ReplicatedDriver(drivers, settings, journal, OneVector(), Limits()) as driver:
        yield driver, drivers


@pytest.fixture
def journal(file_or_shared: JournalSettings) -> JournalSettings:
    return file_or_shared


@pytest.mark.parametrize("acknowledge", ["primary", "all"])
async def test_replicas_are_equal_after_writes_that_overtake_each_other(
    journal: JournalSettings, acknowledge: Acknowledge
) -> None:
    random = Random(7)
    async with replicated(journal, random, acknowledge=acknowledge) as (driver, drivers):
        for n in range(ROUNDS):
            history = History(driver)
            for each in drivers:
                each.lost = each.unreached = 0.3 * (n % 2)
            await storm(history, random, [f"user {n}.{m}" for m in range(2)], 60)
            for each in drivers:
                each.lost = each.unreached = 0.0
            await settled(driver)
            kept = [each.kept for each in drivers]
            assert kept[0] == kept[1] == kept[2], f"round {n}"
            history.check(kept[0])


async def test_two_processes_on_one_journal_leave_their_drivers_equal(
    tmp_path: Path, new_database: NewDatabase
) -> None:
    random = Random(11)
    journal = JournalSettings(url=SecretStr(await new_database()))
    async with (
        replicated(journal, random) as (one, drivers),
        replicated(journal, random, inner=drivers) as (other, _),
    ):
        for n in range(ROUNDS):
            users = [f"user {n}.{m}" for m in range(2)]
            histories = History(one), History(other)
            histories[1].stores = histories[0].stores
            histories[1].deletes = histories[0].deletes
            for each in drivers:
                each.lost = 0.3 * (n % 2)
            await asyncio.gather(*(storm(h, random, users, 40) for h in histories))
            for each in drivers:
                each.lost = 0.0
            await settled(one)
            kept = [each.kept for each in drivers]
            assert kept[0] == kept[1] == kept[2], f"round {n}"
            histories[0].check(kept[0])


async def test_a_store_after_a_delete_user_that_failed_survives_it(
    journal: JournalSettings,
) -> None:
    random = Random(3)
    async with replicated(journal, random) as (driver, drivers):
        first = drivers[0]
        first.away = True
        history = History(driver)
        await history.delete_user("ada")
        first.away = False
        await history.store("ada")
        assert history.stores
        await settled(driver)
        assert [set(each.kept) for each in drivers] == [set(history.stores)] * 3


async def test_calls_that_are_cancelled_anywhere_leave_all_drivers_equal(
    journal: JournalSettings,
) -> None:
    random = Random(5)
    async with replicated(journal, random, acknowledge="quorum") as (driver, drivers):
        for n in range(ROUNDS):
            history = History(driver)
            for each in drivers:
                each.lost = 0.2
            tasks = [
                asyncio.create_task(storm(history, random, [f"user {n}.{m}"], 15)) for m in range(4)
            ]
            for task in tasks:
                await asyncio.sleep(random.uniform(0, 0.03))
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in drivers:
                each.lost = 0.0
            await settled(driver)
            kept = [each.kept for each in drivers]
            assert kept[0] == kept[1] == kept[2], f"round {n}"
            history.check(kept[0])


async def test_a_primary_slower_than_the_hold_ends_equal(journal: JournalSettings) -> None:
    random = Random(13)
    drivers = [FlakyDriver(name, random) for name in ("first", "second")]
    drivers[0].delay = 0.5
    async with replicated(journal, random, seconds=0.1, inner=drivers) as (driver, _):
        history = History(driver)
        drivers[0].lost = 0.5
        await storm(history, random, ["ada", "bob"], 60)
        drivers[0].lost = 0.0
        drivers[0].delay = 0.0
        await settled(driver)
        assert drivers[0].kept == drivers[1].kept
        history.check(drivers[0].kept)
