"""Updates of one record that overtake each other, the dispatchers, or the primary's end."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConnectionLost
from tests.wrappers.flaky import Journalled
from tests.wrappers.scripted import ScriptedDriver, Shape
from tests.wrappers.stories import lost, paused, rest, tell


def test_an_update_that_an_inner_driver_has_still_to_decide_is_not_withdrawn(
    tmp_path: Path,
) -> None:
    async def story(outer: Journalled, leaves: list[ScriptedDriver]) -> None:
        memory = await outer.store("ada", "A jar.")
        await rest(outer)
        inner = outer.inner[0]
        assert isinstance(inner, Journalled)
        await inner.members.dispatchers["first"].stop()
        leaves[0].lost = 2.0  # each answer is lost before the write is made
        with pytest.raises(ConnectionLost):
            await outer.update(memory.memory_id, "ada", {"content": "A lid."})
        leaves[0].lost = 0.0
        await asyncio.sleep(2)  # the outer dispatcher asks the inner driver
        await rest(outer)
        assert leaves[0].kept == leaves[1].kept == leaves[2].kept

    tell(Shape(kind="replicated over replicated"), tmp_path, story)


def test_an_update_that_was_made_is_not_withdrawn_because_a_standby_lacks_it(
    tmp_path: Path,
) -> None:
    async def story(outer: Journalled, leaves: list[ScriptedDriver]) -> None:
        first, _, third = leaves
        memory = await outer.store("ada", "A jar.")
        await rest(outer)
        gone = lambda: setattr(first, "away", True)  # noqa: E731
        first.fates = [lost, gone]
        with pytest.raises(ConnectionLost):
            await outer.update(memory.memory_id, "ada", {"content": "A lid."})
        await asyncio.sleep(2)
        assert first.away
        first.away = False
        await rest(outer)
        assert first.kept == third.kept

    tell(Shape(kind="replicated over failover"), tmp_path, story)


def test_an_update_that_the_primary_refuses_later_holds_up_no_other(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        first.lost = 2.0
        with pytest.raises(ConnectionLost):
            await driver.update(memory.memory_id, "ada", {"content": "A lid."})
        first.lost = 0.0
        first.refuses.add("replace")
        await asyncio.sleep(2)
        first.refuses.clear()
        updated = await driver.update(memory.memory_id, "ada", {"content": "A cup."})
        await rest(driver)
        assert [leaf.kept for leaf in leaves] == [{memory.memory_id: updated}] * 3

    tell(Shape(), tmp_path, story)


def test_an_import_that_the_primary_refused_holds_up_no_update(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        newer = replace(memory, updated_at=memory.updated_at + timedelta(seconds=60))
        first.refuses.add("keep")
        with pytest.raises(ConnectionLost):
            await driver.import_records([newer])
        await asyncio.sleep(2)
        updated = await driver.update(memory.memory_id, "ada", {"content": "A lid."})
        assert await driver.get(memory.memory_id, "ada") == updated

    tell(Shape(), tmp_path, story)


def both_are_there(kept: dict[str, Any]) -> None:
    (record,) = kept.values()
    assert record.metadata == {"one": 1, "other": 1}


def test_of_two_updates_the_journal_accepts_none_of_what_is_no_more(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        go_on = asyncio.Event()
        paused(driver, "_replace", go_on.wait)
        late = asyncio.create_task(
            driver.update(memory.memory_id, "ada", {"metadata": {"other": 1}})
        )
        await asyncio.sleep(0.1)  # it has read the record
        await driver.update(memory.memory_id, "ada", {"metadata": {"one": 1}})
        await rest(driver)
        first.away = True
        go_on.set()
        assert await late
        first.away = False
        await rest(driver)
        both_are_there(first.kept)
        assert [leaf.kept for leaf in leaves] == [first.kept] * 3

    tell(Shape(acknowledge="journal"), tmp_path, story)


def test_an_update_of_what_was_delivered_meanwhile_is_the_primarys(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        await driver.members.dispatchers["first"].stop()
        first.away = True
        memory = await driver.store("ada", "A jar.")
        first.away = False
        go_on = asyncio.Event()
        paused(driver.members.journal, "append_update", go_on.wait)
        late = asyncio.create_task(
            driver.update(memory.memory_id, "ada", {"metadata": {"other": 1}})
        )
        await asyncio.sleep(0.1)  # it has seen that the record waits
        await driver.update(memory.memory_id, "ada", {"metadata": {"one": 1}})
        await rest(driver)
        go_on.set()
        assert await late
        await rest(driver)
        both_are_there(first.kept)

    tell(Shape(kind="failover", writes="journal"), tmp_path, story)


def test_an_update_that_was_accepted_is_not_withdrawn(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        first.away = True
        journal = driver.members.journal
        newer = replace(memory, updated_at=memory.updated_at + timedelta(microseconds=1))
        accepting, deciding = asyncio.Event(), asyncio.Event()
        paused(journal, "settle", accepting.wait)
        paused(journal, "withdraw", deciding.wait)
        updating = asyncio.create_task(
            driver.update(memory.memory_id, "ada", {"metadata": {"one": 1}})
        )
        await asyncio.sleep(1)  # its lease ends
        await first.seed([newer])  # as somebody else brings it
        first.away = False
        driver.members.dispatchers["first"].wake(back=True)
        await asyncio.sleep(1)  # the dispatcher is about to withdraw it
        accepting.set()
        await asyncio.sleep(0.1)
        deciding.set()
        updated = await updating
        await rest(driver)
        assert [leaf.kept for leaf in leaves] == [{memory.memory_id: updated}] * 3

    tell(Shape(acknowledge="journal"), tmp_path, story)


def test_a_replica_shows_no_update_that_may_still_not_happen(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        await driver.members.dispatchers["first"].stop()
        first.lost = 2.0
        with pytest.raises(ConnectionLost):
            await driver.update(memory.memory_id, "ada", {"content": "A lid."})
        first.lost, first.away = 0.0, True
        assert await driver.get(memory.memory_id, "ada") == memory

    tell(Shape(acknowledge="primary"), tmp_path, story)


def test_an_update_whose_caller_is_gone_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        paused(first, "_replace", asyncio.Event().wait)
        gone = asyncio.create_task(driver.update(memory.memory_id, "ada", {"content": "A lid."}))
        await asyncio.sleep(0.05)
        gone.cancel()
        async with asyncio.timeout(0.2):  # much less than its lease
            assert await driver.update(memory.memory_id, "ada", {"content": "A cup."})
        await rest(driver)
        assert [leaf.kept for leaf in leaves] == [first.kept] * 3

    tell(Shape(), tmp_path, story)


def test_an_update_that_was_made_and_is_refused_later_reaches_the_replicas(tmp_path: Path) -> None:
    async def story(driver: Journalled, leaves: list[ScriptedDriver]) -> None:
        first = leaves[0]
        memory = await driver.store("ada", "A jar.")
        await rest(driver)
        first.fates = [lost]
        with pytest.raises(ConnectionLost):
            await driver.update(memory.memory_id, "ada", {"content": "A lid."})
        first.refuses.add("replace")
        await asyncio.sleep(2)
        first.refuses.clear()
        await rest(driver)
        assert [leaf.kept for leaf in leaves] == [first.kept] * 3

    tell(Shape(), tmp_path, story)
