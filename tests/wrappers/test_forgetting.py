"""Deletes of much, and of several, through wrapping drivers: counted truly, with drivers away."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory, UserCount
from app.core.memory.requests import Forget
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import DriverTimeout, DriverUnavailable, JournalUnavailable
from app.journal.tables import metadata
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.alone import left_alone
from tests.wrappers.conftest import OpenFailover, OpenReplicated
from tests.wrappers.flaky import Journalled, OneVector, settled
from tests.wrappers.held import Held
from tests.wrappers.scripted import journalled

TIMEOUT = 1.0
PIECES = 22
"""Each takes a fifth of the time-out: all of them take longer than a lease."""


class InPieces(InMemoryDriver):
    """Forgets a user in pieces, each of which takes its time; `silent`, and it tells nobody."""

    def __init__(self, name: str) -> None:
        super().__init__(OneVector(), Limits())
        self.name = name
        self.forgets = 0
        self.silent = False

    async def _forget(self, wanted: Forget) -> int:
        self.forgets += 1
        for _ in range(PIECES):
            await asyncio.sleep(TIMEOUT / 5)
            if not self.silent:
                wanted.on_piece()
        return await super()._forget(wanted)


@dataclass
class Wrapped:
    """A wrapping driver, and what it holds."""

    driver: Journalled
    leaves: list[InPieces]


@pytest.fixture(params=["failover", "replicated", "replicated-all", "failover over replicated"])
async def wrapped(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Wrapped]:
    leaves = [InPieces(name) for name in ("first", "second", "third")]
    journal = JournalSettings(path=tmp_path)

    def over(kind: str, inner: list[Any], name: str) -> Journalled:
        if kind == "failover":
            failover = FailoverSettings(timeout=TIMEOUT)
            return FailoverDriver(inner, failover, journal, OneVector(), Limits(), name)
        replicated = ReplicatedSettings(
            timeout=TIMEOUT, acknowledge="all" if kind.endswith("all") else "primary"
        )
        return ReplicatedDriver(inner, replicated, journal, OneVector(), Limits(), name)

    outer, *rest = str(request.param).split(" over ")
    with left_alone(after=1):
        inner: list[Any] = [*leaves]
        if rest:
            inner = [over(rest[0], leaves[:2], "inner"), leaves[2]]
        driver = over(outer, inner, "outer")
    async with driver:
        yield Wrapped(driver, leaves)


async def test_a_forget_that_goes_on_is_waited_for_and_made_once(wrapped: Wrapped) -> None:
    driver = wrapped.driver
    await driver.store_many([NewMemory(user_id="ada", content="kettle")] * 5)
    for each in journalled(driver):
        await settled(each)
    assert await driver.delete_user("ada") == 5
    for each in journalled(driver):
        await settled(each)
    assert [leaf.forgets for leaf in wrapped.leaves] == [1, 1, 1]
    assert (await driver.health_check()).status == "ok"
    assert all(not node.reachability.away for node in driver.members.nodes)


async def test_a_dispatcher_waits_for_a_forget_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("app.wrappers.members._DELIVERY_SECONDS", TIMEOUT)
    first, second = Held("first", OneVector()), InPieces("second")
    settings = ReplicatedSettings(timeout=TIMEOUT)
    journal = JournalSettings(path=tmp_path)
    async with ReplicatedDriver(
        [first, second], settings, journal, OneVector(), Limits()
    ) as driver:
        await driver.store("ada", "kettle")
        await settled(driver)
        assert await driver.delete_user("ada") == 1
        await settled(driver)
        assert second.forgets == 1
        assert (await driver.health_check()).status == "ok"


async def test_a_forget_that_stands_still_is_given_up(tmp_path: Path) -> None:
    first, second = InPieces("first"), InPieces("second")
    second.silent = True
    settings = FailoverSettings(timeout=TIMEOUT)
    journal = JournalSettings(path=tmp_path)
    async with FailoverDriver([first, second], settings, journal, OneVector(), Limits()) as driver:
        await driver.store("ada", "kettle")
        assert await driver.delete_user("ada") == 1
        assert set(await driver.members.journal.lag()) == {"second"}


async def store_some(driver: RecordDriver) -> None:
    await driver.store_many(
        [
            NewMemory(user_id="ada", content=f"kettle {n}", conversation_id="b" if n % 2 else "a")
            for n in range(10)
        ]
    )


async def counted(driver: RecordDriver) -> list[UserCount]:
    return (await driver.list_users()).users


async def test_what_failover_deletes_while_the_fallback_is_away_reaches_it_later(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    await store_some(driver)
    await second.import_records([record async for record in first.export_records()])
    second.error = DriverUnavailable()
    assert await driver.delete_many("ada", "a") == 5
    assert await counted(driver) == [UserCount("ada", 5)]
    second.error, first.error = None, DriverUnavailable()
    assert await counted(driver) == [UserCount("ada", 5)]  # the fallback lags, and answers
    first.error = None
    await settled(driver)
    assert await first.ids() == await second.ids()
    assert len(await first.ids()) == 5


async def test_failover_deletes_by_what_its_primary_has_or_not_at_all(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    await store_some(driver)
    await second.store("ada", "kettle", "a")
    first.error = DriverUnavailable()
    await driver.store("ada", "a new kettle", "a")
    for dry_run in (True, False):
        with pytest.raises(DriverUnavailable):
            await driver.delete_many("ada", "a", dry_run=dry_run)
    assert len((await driver.list_memories("ada", "a")).memories) == 2
    first.error = None
    await settled(driver)
    for dry_run in (True, False):
        assert await driver.delete_many("ada", "a", dry_run=dry_run) == 6
    assert len(await first.ids()) == 5


async def test_without_its_journal_failover_counts_nothing_that_it_could_not_delete(
    first: Held, second: Held, embedder: Embedder
) -> None:
    nobody = SecretStr("postgresql://memory@127.0.0.1:1/journal")
    journal = JournalSettings(url=nobody, timeout=1)
    async with FailoverDriver(
        [first, second], FailoverSettings(), journal, embedder, Limits()
    ) as driver:
        await store_some(driver)
        assert len((await driver.list_memories("ada", "a")).memories) == 5
        for dry_run in (True, False):
            with pytest.raises(JournalUnavailable):
                await driver.delete_many("ada", "a", dry_run=dry_run)
        assert len(await first.ids()) == 10


async def test_users_are_counted_with_what_the_journal_has_of_them(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    await store_some(driver)
    await driver.store("bob", "kettle")
    await second.import_records([record async for record in first.export_records()])
    first.error = DriverUnavailable()
    await driver.store("ada", "a new kettle", "a")
    await driver.store("cleo", "kettle")
    memory = await driver.store("dora", "kettle")
    assert await driver.delete(memory.memory_id, "dora")
    assert await driver.delete_user("bob") == 1
    for each in (await driver.list_memories("ada", "a")).memories:
        assert await driver.delete(each.memory_id, "ada")
    wanted = [UserCount("ada", 5), UserCount("cleo", 1)]
    assert await counted(driver) == wanted
    page = await driver.list_users(limit=1)
    assert page.users == wanted[:1]
    assert (await driver.list_users(page.next_cursor)).users == wanted[1:]
    first.error = None
    await settled(driver)
    assert await counted(driver) == await counted(first) == wanted


@pytest.mark.parametrize("acknowledge", ["primary", "journal"])
async def test_replicated_deletes_and_counts_with_drivers_away(
    replicated: OpenReplicated, first: Held, second: Held, acknowledge: str
) -> None:
    driver = await replicated(acknowledge=acknowledge)
    await store_some(driver)
    second.error = DriverUnavailable()
    assert await driver.delete_many("ada", "a") == 5
    second.error = None
    await settled(driver)
    if acknowledge == "journal":
        first.error = DriverUnavailable()
        await driver.store("ada", "a new kettle", "b")
        await driver.store("bob", "kettle")
        assert await counted(driver) == [UserCount("ada", 6), UserCount("bob", 1)]
        assert await driver.delete_many("ada", "b", dry_run=True) == 6
        assert await driver.delete_many("ada", "b") == 6
        assert await counted(driver) == [UserCount("bob", 1)]
        first.error = None
        await settled(driver)
        assert await counted(driver) == [UserCount("bob", 1)]
    assert await first.ids() == await second.ids()


async def test_a_delete_of_several_is_one_call_of_each_driver(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="all")
    await store_some(driver)
    second.error = DriverUnavailable()
    for held in (first, second):
        held.calls.clear()
    with pytest.raises(DriverTimeout, match="Too few drivers"):
        await driver.delete_many("ada", "a")
    assert first.calls.count("delete") == 1
    second.error = None
    second.calls.clear()
    await settled(driver)
    assert second.calls.count("delete") == 1
    assert await first.ids() == await second.ids()


async def test_after_a_delete_the_journal_has_ids_alone(
    replicated: OpenReplicated, journal: JournalSettings
) -> None:
    driver = await replicated(acknowledge="all")
    for way in ("delete", "delete_many", "delete_user"):
        memory = await driver.store("ada", "a kettle of nobody's business", "kitchen")
        if way == "delete":
            assert await driver.delete(memory.memory_id, "ada")
        elif way == "delete_many":
            assert await driver.delete_many("ada", "kitchen") == 1
        else:
            assert await driver.delete_user("ada") == 1
        await settled(driver)
        assert await driver.recall("ada") == []
    left = {
        table.name: await driver.members.journal.database.rows(select(table))
        for table in metadata.sorted_tables
    }
    assert left["journal_entries"] == left["journal_deliveries"] == []
    assert len(left["journal_tombstones"]) == 3
    assert "kettle" not in str(left)
