"""What is deleted, refused or kept in the journal must not cost another write its record."""

import asyncio
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from app.core.memory.records import record_id
from app.core.memory.requests import Delete
from app.errors import (
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    JournalUnavailable,
)
from app.journal.entries import Write
from app.journal.journal import Journal
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.wrappers.alone import left_alone
from tests.wrappers.flaky import FlakyDriver, Journalled, OneVector, settled
from tests.wrappers.held import until


class Refusing(FlakyDriver):
    """Refuses each delete of a memory while it `refuses`."""

    refuses = False

    async def _delete(self, wanted: Delete) -> bool:
        if self.refuses and not self.away and wanted.kind == "memory":
            raise DriverError(reason="not this one")
        return await super()._delete(wanted)


def flaky(*names: str) -> list[FlakyDriver]:
    return [Refusing(name, Random(1), delay=0.001) for name in names]


def replicated(
    path: Path,
    *inner: object,
    name: str = "replicated",
    acknowledge: Literal["primary", "all"] = "primary",
) -> ReplicatedDriver:
    journal = JournalSettings(path=path)
    drivers: list[FlakyDriver] = list(inner)  # type: ignore[arg-type] # or wrapping ones
    settings = ReplicatedSettings(timeout=4, acknowledge=acknowledge)
    return ReplicatedDriver(drivers, settings, journal, OneVector(), Limits(), name)


async def test_a_store_that_an_inner_driver_makes_later_is_made_on_the_outer_ones_too(
    tmp_path: Path,
) -> None:
    first, second, third = flaky("first", "second", "third")
    inner = replicated(tmp_path, first, second, name="inner")
    async with replicated(tmp_path, inner, third, name="outer") as outer:
        first.away = True
        with pytest.raises(ConnectionLost):
            await outer.store("ada", "A jar.")
        first.away = False
        await settled(inner)
        await settled(outer)
        assert first.kept == second.kept == third.kept


async def test_a_delete_of_the_other_kind_costs_nobody_a_record(tmp_path: Path) -> None:
    first, second = flaky("first", "second")
    async with replicated(tmp_path, first, second) as driver:
        second.away = True
        memory = await driver.store("ada", "A jar.")
        fact = await driver.store_global_knowledge("A jar.", "jars")
        assert not await driver.delete_knowledge(memory.memory_id)
        assert not await driver.delete(fact.knowledge_id)
        second.away = False
        await settled(driver)
        assert set(first.kept) == set(second.kept) == {memory.memory_id, fact.knowledge_id}


async def test_what_is_deleted_is_not_stored_again_while_the_delete_is_refused(
    tmp_path: Path,
) -> None:
    first, second = flaky("first", "second")
    assert isinstance(second, Refusing)
    async with replicated(tmp_path, first, second) as driver:
        memory = await driver.store("ada", "A jar.")
        await settled(driver)
        second.away = True
        await driver.delete(memory.memory_id, "ada")
        second.refuses, second.away = True, False
        driver.members.dispatchers["second"].wake(back=True)

        async def refused() -> bool:
            lag = (await driver.members.journal.lag()).get("second")
            return lag is not None and lag.dead_letters > 0

        await until(refused)
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory])
        second.refuses = False
        await driver.members.dispatchers["second"].try_again()
        await settled(driver)
        await driver.import_records([memory])
        await settled(driver)
        assert set(first.kept) == set(second.kept) == {memory.memory_id}


@pytest.mark.parametrize("writes", ["primary", "journal"])
async def test_a_store_after_a_deletion_that_waits_survives_it_where_the_journal_is_lost(
    tmp_path: Path, writes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers = flaky("first", "second")
    chosen = FailoverSettings(writes=writes, timeout=0.5)
    journal = JournalSettings(path=tmp_path)
    with left_alone(after=100):
        made = FailoverDriver(drivers, chosen, journal, OneVector(), Limits())
    async with made as driver:
        drivers[0].away = True
        await driver.delete_user("ada")

        async def lost(*_: object, **__: object) -> None:
            raise JournalUnavailable

        with monkeypatch.context() as patched:
            patched.setattr(driver.members.journal.database, "transaction", lost)
            drivers[0].away = False
            memory = await driver.store("ada", "A jar.")
        await settled(driver)
        assert set(drivers[0].kept) == {memory.memory_id}


async def test_what_is_stored_again_survives_an_older_store_of_it_that_comes_late(
    tmp_path: Path,
) -> None:
    first, second, third = flaky("first", "second", "third")
    async with replicated(tmp_path, first, second, third, acknowledge="all") as driver:
        await driver.members.dispatchers["third"].stop()
        third.away = True
        for store in (
            driver.store("ada", "A jar."),
            driver.store_global_knowledge("A jar.", "jars"),
        ):
            with pytest.raises(DriverTimeout):
                await store  # the third does not have it
        memory, fact = first.kept.values()
        third.away = False
        await driver.delete(record_id(memory), "ada")
        await driver.delete_knowledge(record_id(fact))
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory, fact])
        driver.members.dispatchers["third"].start()
        await settled(driver)
        await driver.import_records([memory, fact])
        await settled(driver)
        assert first.kept == second.kept == third.kept
        assert set(first.kept) == {record_id(memory), record_id(fact)}


async def test_what_failover_imports_survives_an_older_store_of_it_that_comes_late(
    tmp_path: Path,
) -> None:
    drivers = flaky("first", "second")
    settings = FailoverSettings(writes="journal", timeout=0.5)
    journal = JournalSettings(path=tmp_path)
    with left_alone(after=100):
        made = FailoverDriver(drivers, settings, journal, OneVector(), Limits())
    async with made as driver:
        await driver.members.dispatchers["first"].stop()
        drivers[0].away = True
        memory = await driver.store("ada", "A jar.")
        drivers[0].away = False
        await driver.delete(memory.memory_id, "ada")
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory])
        driver.members.dispatchers["first"].start()
        await settled(driver)
        await driver.import_records([memory])
        assert set(drivers[0].kept) == {memory.memory_id}


@pytest.mark.parametrize("kind", ["replicated", "failover"])
async def test_a_deletion_whose_maker_stood_still_costs_no_later_store(
    new_database: NewDatabase, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drivers = flaky("first", "second")
    journal = JournalSettings(url=SecretStr(await new_database()))

    def make() -> Journalled:
        if kind == "replicated":
            return ReplicatedDriver(
                drivers, ReplicatedSettings(timeout=0.1), journal, OneVector(), Limits()
            )
        settings = FailoverSettings(timeout=0.1)
        return FailoverDriver(drivers, settings, journal, OneVector(), Limits())

    async with make() as one, make() as other:
        append = one.members.journal.append
        go_on = asyncio.Event()

        async def late(*arguments: Any, **named: Any) -> Any:
            made = await append(*arguments, **named)
            await go_on.wait()  # as a process that is stopped, or whose machine is
            return made

        monkeypatch.setattr(one.members.journal, "append", late)
        deleting = asyncio.create_task(one.delete_user("ada"))
        await until(other.members.journal.count)
        await settled(other)  # made by the other process when the hold was over
        memory = await other.store("ada", "A jar.")
        await settled(other)
        go_on.set()
        await asyncio.gather(deleting, return_exceptions=True)
        await settled(other)
        assert memory.memory_id in drivers[0].kept


async def test_a_hold_begins_when_the_write_is_in_the_file(tmp_path: Path) -> None:
    journal = Journal(JournalSettings(path=tmp_path), "main")
    await journal.open(["first"])
    delete = Write(verb="delete_user", user_id="ada")
    async with journal.database.begin():  # the only connection
        appending = asyncio.create_task(journal.append([delete], ["first"], lease=0.5))
        await asyncio.sleep(0.6)
    await appending
    assert await journal.due("first", None, 10) == []
    await journal.close()
