"""Deletes, and stores and imports beside them: each schedule here once cost somebody a record."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.core.memory.records import record_id
from app.errors import (
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    JournalUnavailable,
)
from tests.wrappers.flaky import Journalled
from tests.wrappers.scripted import ScriptedDriver, Shape
from tests.wrappers.stories import lost, paused, rest, tell

FAILOVER = Shape(kind="failover", writes="journal")


def test_a_store_that_an_inner_driver_makes_later_is_made_on_the_outer_ones_too(
    tmp_path: Path,
) -> None:
    async def story(outer: Journalled, leaves: list[ScriptedDriver]) -> None:
        leaves[0].away = True
        with pytest.raises(ConnectionLost):
            await outer.store("ada", "A jar.")
        leaves[0].away = False
        await rest(outer)
        assert leaves[0].kept == leaves[1].kept == leaves[2].kept
        assert leaves[0].kept

    tell(Shape(kind="replicated over replicated"), tmp_path, story)


def test_a_delete_of_the_other_kind_costs_nobody_a_record(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        leaves[1].away = True
        memory = await driver.store("ada", "A jar.")
        fact = await driver.store_global_knowledge("A jar.", "jars")
        assert not await driver.delete_knowledge(memory.memory_id)
        assert not await driver.delete(fact.knowledge_id)
        leaves[1].away = False
        await rest(driver)
        for leaf in leaves:
            assert set(leaf.kept) == {memory.memory_id, fact.knowledge_id}

    tell(Shape(), tmp_path, story)


def test_what_is_deleted_is_not_imported_while_a_driver_refuses_the_delete(
    tmp_path: Path,
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        leaves[1].refuses.add("delete")
        await driver.delete(memory.memory_id, "ada")
        await asyncio.sleep(1)
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory])
        leaves[1].refuses.clear()
        await rest(driver)
        await driver.import_records([memory])
        await rest(driver)
        for leaf in leaves:
            assert set(leaf.kept) == {memory.memory_id}

    tell(Shape(), tmp_path, story)


def test_what_is_imported_again_survives_an_older_store_of_it_that_comes_late(
    tmp_path: Path,
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        third = leaves[2]
        await driver.members.dispatchers["third"].stop()
        third.away = True
        for store in (
            driver.store("ada", "A jar."),
            driver.store_global_knowledge("A jar.", "jars"),
        ):
            with pytest.raises(DriverTimeout):
                await store  # the third does not have it
        memory, fact = leaves[0].kept.values()
        third.away = False
        await driver.delete(record_id(memory), "ada")
        await driver.delete_knowledge(record_id(fact))
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory, fact])
        await rest(driver)
        await driver.import_records([memory, fact])
        await rest(driver)
        for leaf in leaves:
            assert set(leaf.kept) == {record_id(memory), record_id(fact)}

    tell(Shape(acknowledge="all"), tmp_path, story)


def test_what_failover_imports_survives_an_older_store_of_it_that_comes_late(
    tmp_path: Path,
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        await driver.members.dispatchers["first"].stop()
        first.away = True
        memory = await driver.store("ada", "A jar.")
        first.away = False
        await driver.delete(memory.memory_id, "ada")
        with pytest.raises(DriverUnavailable):
            await driver.import_records([memory])
        await rest(driver)
        await driver.import_records([memory])
        assert set(first.kept) == {memory.memory_id}

    tell(FAILOVER, tmp_path, story)


@pytest.mark.parametrize("writes", ["primary", "journal"])
def test_a_store_after_a_deletion_that_waits_survives_it_where_the_journal_is_lost(
    tmp_path: Path, writes: Any
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        async def lost(*_: object, **__: object) -> None:
            raise JournalUnavailable

        first = leaves[0]
        first.away = True
        await driver.delete_user("ada")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(driver.members.journal.database, "transaction", lost)
            first.away = False
            memory = await driver.store("ada", "A jar.")
        await rest(driver)
        assert set(first.kept) == {memory.memory_id}

    tell(Shape(kind="failover", writes=writes), tmp_path, story)


def test_what_was_deleted_before_it_was_journalled_is_not_back(tmp_path: Path) -> None:
    """Its answer was lost, so it is journalled; somebody saw it on the driver and deleted it."""

    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        first.fates = [lost]
        go_on = asyncio.Event()
        paused(driver.members.journal, "append", go_on.wait)
        storing = asyncio.create_task(driver.store("ada", "A jar."))
        await asyncio.sleep(1)
        (key,) = first.kept
        assert await driver.delete(key, "ada")
        go_on.set()
        await storing
        await rest(driver)
        assert not first.kept

    tell(FAILOVER, tmp_path, story)


@pytest.mark.parametrize("shape", [Shape(), FAILOVER])
def test_a_deletion_whose_writer_stood_still_costs_no_later_store(
    tmp_path: Path, shape: Shape
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        go_on = asyncio.Event()
        for leaf in leaves:
            paused(leaf, "_forget", go_on.wait)
        deleting = asyncio.create_task(driver.delete_user("ada"))
        await asyncio.sleep(0.01)
        memory = await driver.store("ada", "A jar.")
        await asyncio.sleep(1)  # longer than its lease
        go_on.set()
        await asyncio.gather(deleting, return_exceptions=True)
        await rest(driver)
        assert memory.memory_id in leaves[0].kept

    tell(shape, tmp_path, story)


@pytest.mark.parametrize("shape", [Shape(acknowledge="journal"), FAILOVER])
def test_what_is_deleted_while_it_is_delivered_is_not_read(tmp_path: Path, shape: Shape) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first, looks = leaves[0], asyncio.Event()
        first.away = True
        memory = await driver.store("ada", "A jar.")
        comes = asyncio.Event()

        async def come() -> None:
            first.away = False
            await comes.wait()

        paused(first, "_keep", come)
        async with asyncio.timeout(60):
            while first.away:
                await asyncio.sleep(0.1)
        await driver.delete(memory.memory_id, "ada")
        paused(driver.members.journal, "dead", looks.wait)
        comes.set()
        await asyncio.sleep(0.05)
        assert memory.memory_id in first.kept
        assert await driver.get(memory.memory_id, "ada") is None
        assert not await driver.recall("ada")
        looks.set()
        await rest(driver)
        assert not any(leaf.kept for leaf in leaves)

    tell(shape, tmp_path, story)


@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("shape", [Shape(), Shape(acknowledge="all"), FAILOVER])
def test_a_refused_deletion_of_a_user_holds_up_nothing_and_takes_nothing_stored_later(
    tmp_path: Path, shape: Shape, who: int
) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        earlier = await driver.store("ada", "A jar.")
        await rest(driver)
        refusing = leaves[who]
        refusing.refuses.add("forget")
        with suppress(DriverError):  # the primary's own refusal
            await driver.delete_user("ada")
        await asyncio.sleep(1)
        later = await driver.store("ada", "A lid.")
        other = await driver.store("bob", "A cup.")
        await asyncio.sleep(1)
        lag = (await driver.members.journal.lag())[refusing.name]
        assert lag.count == lag.dead_letters == 1
        stay = {later.memory_id, other.memory_id}
        assert [m.memory_id for m in await driver.recall("ada")][:1] == [later.memory_id]
        assert stay <= set(leaves[0].kept) <= {*stay, earlier.memory_id}
        refusing.refuses.clear()
        await rest(driver)
        assert set(leaves[0].kept) == stay

    tell(shape, tmp_path, story)


def test_a_store_whose_writer_stood_still_is_not_back_after_its_delete(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first, go_on = leaves[0], asyncio.Event()
        made = first._keep

        async def frozen(wanted: Any) -> Any:
            first._keep = made  # type: ignore[method-assign]
            with suppress(asyncio.CancelledError):  # a machine that stands still hears nothing
                await asyncio.sleep(60)
            await go_on.wait()
            return await made(wanted)

        first._keep = frozen  # type: ignore[method-assign]
        storing = asyncio.create_task(driver.store("ada", "A jar."))
        await asyncio.sleep(1)  # its lease ends, and the dispatchers store it
        (key,) = first.kept
        assert await driver.delete(key, "ada")
        await rest(driver)
        go_on.set()
        await asyncio.gather(storing, return_exceptions=True)
        assert not any(leaf.kept for leaf in leaves)

    tell(Shape(), tmp_path, story)
