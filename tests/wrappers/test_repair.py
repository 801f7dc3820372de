"""repair: one driver is made to hold what another holds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.records import Kept, Record
from app.core.memory.requests import Delete, Export, Keep
from app.embedding import Embedder
from app.errors import DriverTimeout, DriverUnavailable, InvalidInput
from app.settings import Limits
from app.transfer.repair import Difference, repair
from app.wrappers import members
from app.wrappers.scoped import ScopedDriver
from tests.wrappers.conftest import OpenFailover, OpenReplicated
from tests.wrappers.held import Held, until


async def test_the_target_gets_what_it_lacks_and_loses_what_it_has_too_many(
    first: Held, second: Held
) -> None:
    await asyncio.gather(first.open(), second.open())
    same = await first.store("ada", "kettle", "c", ["x"], {"n": 1})
    other = await first.store("ada", "basil")
    fact = await first.store_global_knowledge("kettles", "kitchen")
    await first.store("bob", "windowsill")
    await second.import_records([same, replace(other, content="thyme")])
    await second.store("ada", "never stored in the first")
    await second.store_global_knowledge("wrong", "kitchen")

    assert await repair(first, second, dry_run=True) == Difference(2, 1, 2)
    assert await repair(first, second) == Difference(2, 1, 2)
    assert (await repair(first, second)).none
    assert await first.ids() == await second.ids()
    assert await second.get(other.memory_id, "ada") == other
    assert await second.get_knowledge(fact.knowledge_id) == fact


async def test_one_id_of_two_users_is_two_records(first: Held, second: Held) -> None:
    await asyncio.gather(first.open(), second.open())
    mine = await first.store("ada", "kettle")
    theirs = replace(mine, user_id="bob", content="basil")
    await first.import_records([theirs])
    assert await repair(first, second) == Difference(missing=2)
    assert await second.get(mine.memory_id, "ada") == mine
    assert await second.get(mine.memory_id, "bob") == theirs


async def test_what_is_deleted_meanwhile_does_not_come_back(
    first: Held, second: Held, embedder: Embedder
) -> None:
    await asyncio.gather(first.open(), second.open())
    stored = await first.store("ada", "kettle")

    class Late(Held):
        """Its import ends after the record was deleted in the first driver."""

        async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
            kept = await super()._keep(wanted)
            await first.delete(stored.memory_id, "ada")
            return kept

    late = Late("late", embedder)
    assert await repair(first, late) == Difference(missing=1)
    assert await late.ids() == set()


async def test_what_is_updated_in_both_meanwhile_stays_updated(
    first: Held, embedder: Embedder
) -> None:
    await first.open()

    class Updated(Held):
        """Both get an update right after repair has read for the second time."""

        readings = 0

        async def _export(self, wanted: Export) -> AsyncIterator[Record]:
            async for record in super()._export(wanted):
                yield record
            self.readings += 1
            if self.readings == 2:
                updated = await self.update(stored.memory_id, "ada", {"content": "basil"})
                assert updated is not None
                await first.import_records([updated])

    source = Updated("source", embedder)
    stored = await source.store("ada", "kettle")
    await first.import_records([replace(stored, content="thyme")])
    assert await repair(source, first) == Difference(different=1)
    found = await first.get(stored.memory_id, "ada")
    assert found is not None
    assert found.content == "basil"
    assert (await repair(source, first)).none


async def test_what_is_being_deleted_in_both_meanwhile_does_not_come_back(
    failover: OpenFailover, first: Held, second: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await failover()
    stored = await first.store("ada", "kettle")
    delete, go_on = first._delete, asyncio.Event()

    async def late(wanted: Delete) -> int:
        await go_on.wait()
        return await delete(wanted)

    async def settled() -> None:
        assert await second.ids() == {stored.memory_id}
        go_on.set()
        await driver.settled("first")

    monkeypatch.setattr(first, "_delete", late)
    deleting = asyncio.create_task(driver.delete(stored.memory_id, "ada"))

    async def reached() -> bool:
        return "delete" in second.calls

    await until(reached)
    assert await repair(first, second, settled=settled) == Difference(missing=1)
    assert await deleting
    assert await first.ids() == await second.ids() == set()


async def test_what_the_source_gets_only_later_stays_in_the_target(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    second.keep_error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")

    async def back() -> None:
        second.keep_error = None
        await driver.settled("second")

    assert await repair(second, first, settled=back) == Difference(extra=1)
    assert await first.ids() == await second.ids() == {stored.memory_id}


async def test_a_source_that_does_not_get_what_it_missed_is_no_source(
    replicated: OpenReplicated, first: Held, second: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "_CATCH_UP_SECONDS", 0.5)
    driver = await replicated()
    second.keep_error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")
    with pytest.raises(DriverTimeout):
        await repair(second, first, settled=lambda: driver.settled("second"))
    assert await first.ids() == {stored.memory_id}


async def test_a_driver_is_not_repaired_from_what_it_holds_or_is_held_by(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    stored = await second.store("ada", "kettle")
    pairs: list[tuple[BaseMemoryDriver, BaseMemoryDriver]] = [
        (second, driver),
        (driver, second),
        (ScopedDriver(second, "acme", Limits()), second),
        (second, second),
    ]
    for source, target in pairs:
        with pytest.raises(InvalidInput, match="both hold second"):
            await repair(source, target)
    assert await second.ids() == {stored.memory_id}
    assert await repair(second, first) == Difference(missing=1)


async def test_what_the_target_only_lacks_is_not_deleted_there_first(
    replicated: OpenReplicated, first: Held, second: Held, embedder: Embedder
) -> None:
    driver = await replicated()
    source = Held("source", embedder)
    stored = await source.store("ada", "kettle")
    assert await repair(source, driver) == Difference(missing=1)
    assert "delete" not in first.calls
    assert await first.ids() == {stored.memory_id}
