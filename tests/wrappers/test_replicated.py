"""replicated: who has a write when, and what becomes of it when a driver is away."""

import asyncio
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from app.core.memory.base import DriverHealth
from app.core.memory.records import NewMemory, Recalled
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    InvalidInput,
)
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.conftest import OpenReplicated
from tests.wrappers.flaky import OneVector
from tests.wrappers.held import Held, until
from tests.wrappers.settled import settle


async def test_every_driver_gets_every_write(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle", "c", ["x"], {"n": 1.5})
    batch = await driver.store_many([NewMemory(user_id=f"u{n}", content="b") for n in range(3)])
    fact = await driver.store_global_knowledge("kettle", "kitchen")
    await settle(driver)
    wanted = {stored.memory_id, fact.knowledge_id, *(m.memory_id for m in batch)}
    assert await first.ids() == await second.ids() == wanted
    assert await second.get(stored.memory_id, "ada") == stored
    assert await driver.delete(stored.memory_id, "ada") is True
    assert await driver.delete_user("u1") == 1
    assert await driver.delete_knowledge(fact.knowledge_id) is True
    await settle(driver)
    assert await first.ids() == await second.ids() == {batch[0].memory_id, batch[2].memory_id}


async def test_a_replica_that_was_away_gets_what_it_missed_in_order(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    before = await driver.store("ada", "kettle 0")
    await settle(driver)
    second.error = DriverUnavailable()
    stored = [await driver.store("ada", f"kettle {n}") for n in range(1, 6)]
    await driver.delete(before.memory_id, "ada")
    await driver.delete(stored[0].memory_id, "ada")
    health = await driver.health_check()
    assert health.status == "degraded"
    assert health.facts["pending"]["second"]["count"] == 7
    assert health.facts["pending"]["second"]["age_seconds"] > 0
    assert await driver.recall("ada") == stored[:0:-1]
    second.error = None
    await settle(driver)
    assert await first.ids() == await second.ids() == {m.memory_id for m in stored[1:]}


async def test_a_store_that_the_primary_refuses_is_nowhere(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    with pytest.raises(InvalidInput):
        await driver.store("ada", "")
    for error in (DriverUnavailable(), DriverError()):
        first.error = error
        with pytest.raises(type(error)):
            await driver.store("ada", "kettle")
    first.error = None
    await settle(driver)
    assert await first.ids() == await second.ids() == set()


async def test_a_store_of_unknown_fate_is_made_everywhere(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    first.error_after = ConnectionLost()  # it happened
    with pytest.raises(ConnectionLost):
        await driver.store("ada", "kettle 1")
    first.error_after, first.error = None, DriverTimeout()  # it did not
    with pytest.raises(DriverTimeout):
        await driver.store("ada", "kettle 2")
    first.error = None
    await settle(driver)
    assert [m.content for m in await first.recall("ada")] == ["kettle 2", "kettle 1"]
    assert await first.ids() == await second.ids()


async def test_a_primary_lost_as_it_deletes_again_what_it_got_late_ends_like_its_replica(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    first.slow = 0.3
    new = [NewMemory(user_id="ada", content="kettle")] * 2
    storing = asyncio.create_task(driver.store_many(new))
    async with asyncio.timeout(10):
        while "keep" not in first.calls:
            await asyncio.sleep(0.01)
    first.slow = 0.0
    await driver.delete_user("ada")
    first.delete_error = DriverUnavailable()  # it is known that this was not done
    with pytest.raises(ConnectionLost):
        await storing
    assert len(await first.ids()) == 2
    first.delete_error = None
    await settle(driver)
    assert await first.ids() == await second.ids() == set()


async def test_a_cancelled_store_ends_the_same_everywhere(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(timeout=0.1)
    first.slow = 0.2
    storing = asyncio.create_task(driver.store("ada", "kettle"))
    await asyncio.sleep(0.1)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    first.slow = 0.0
    await settle(driver)
    assert await first.ids() == await second.ids()
    assert len(await first.ids()) == 1


async def test_a_refused_store_that_the_journal_can_t_forget_is_told_as_uncertain(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(timeout=5.0)
    first.slow, first.error = 0.2, DriverError()
    storing = asyncio.create_task(driver.store("ada", "kettle"))
    async with asyncio.timeout(10):
        while "keep" not in first.calls:
            await asyncio.sleep(0.01)
    await driver.members.journal.close()
    with pytest.raises(ConnectionLost):
        await storing
    first.slow, first.error = 0.0, None
    await driver.members.journal.open(driver.members.names)
    await settle(driver)
    assert len(await first.ids()) == 1
    assert await first.ids() == await second.ids()


@pytest.mark.parametrize("count", [1, 50])
async def test_a_store_on_a_primary_that_hangs_fails_in_time_and_is_made_everywhere(
    replicated: OpenReplicated, first: Held, second: Held, count: int
) -> None:
    driver = await replicated(timeout=0.1)
    first.slow = 30.0
    started = perf_counter()
    with pytest.raises(DriverTimeout):
        await driver.store_many([NewMemory(user_id="ada", content="kettle")] * count)
    assert perf_counter() - started < 10
    first.slow = 0.0
    await settle(driver)
    assert len(await first.ids()) == count
    assert await first.ids() == await second.ids()


async def test_an_answer_of_a_primary_that_misses_a_write_is_degraded(
    replicated: OpenReplicated, first: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    fine = await driver.recall("ada")
    assert isinstance(fine, Recalled)
    assert (fine.driver, fine.degraded) == ("first", False)
    first.error = DriverUnavailable()
    with pytest.raises(ConnectionLost):
        await driver.delete(stored.memory_id, "ada")
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.error = None

    async def told() -> bool:
        found = await driver.recall("ada")
        assert found == [stored]
        return isinstance(found, Recalled) and found.degraded

    await until(told)
    driver.members.dispatchers["first"].start()

    async def made() -> bool:
        found = await driver.recall("ada")
        return isinstance(found, Recalled) and not found and not found.degraded

    await until(made)


async def test_what_a_driver_refused_is_tried_again_when_it_is_asked_for(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    second.keep_error = DriverError(reason="too long for it")
    stored = await driver.store("ada", "kettle")

    async def parked() -> bool:
        pending = (await driver.health_check()).facts["pending"]
        return bool(pending.get("second", {}).get("refused"))

    await until(parked)
    second.keep_error = None
    await driver.catch_up("nobody")
    await driver.catch_up("second")
    await settle(driver)
    assert await second.ids() == {stored.memory_id}


async def test_while_the_primary_is_away_a_replica_answers_that_misses_nothing(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    first.error = DriverUnavailable()
    for _ in range(5):  # more than the failures after which the primary is left alone
        for found in (await driver.recall("ada"), await driver.recall("ada", query="kettle")):
            assert isinstance(found, Recalled)
            assert [memory.memory_id for memory in found] == [stored.memory_id]
            assert (found.driver, found.degraded) == ("second", True)
        assert await driver.get(stored.memory_id, "ada") == stored
        assert (await driver.list_memories("ada")).memories == [stored]
    with pytest.raises(DriverUnavailable):
        await driver.store("ada", "nobody has this one")
    assert (await driver.health_check()).status == "degraded"
    second.error = DriverUnavailable()
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada")
    assert (await driver.health_check()).status == "unavailable"
    first.error = second.error = None
    assert [memory.content for memory in await driver.recall("ada")] == ["kettle"]


async def test_a_replica_that_misses_what_was_acknowledged_answers_as_if_it_had_that(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    second.error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")
    await driver.members.dispatchers["second"].stop()  # so that the moment lasts
    second.error, first.error = None, DriverUnavailable()
    assert await second.ids() == set()
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert (found, found.driver, found.degraded) == ([stored], "second", True)
    assert (await driver.recall("ada", query="kettle"))[0].memory_id == stored.memory_id
    assert await driver.get(stored.memory_id, "ada") == stored
    assert await driver.owner_of(stored.memory_id) == "ada"
    assert (await driver.list_memories("ada")).memories == [stored]
    assert [record async for record in driver.export_records()] == [stored]


async def test_a_delete_that_is_going_to_happen_is_seen_on_a_replica_already(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    first.error = DriverUnavailable()
    with pytest.raises(ConnectionLost):
        await driver.delete(stored.memory_id, "ada")
    assert await driver.recall("ada") == []
    assert await second.ids() == {stored.memory_id}
    first.error = None
    await settle(driver)
    assert await second.ids() == set()


async def test_a_primary_that_hangs_is_waited_for_no_longer_than_its_time(
    replicated: OpenReplicated, first: Held
) -> None:
    driver = await replicated(timeout=0.1)
    first.slow = 30.0
    started = perf_counter()
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert (found.driver, found.degraded) == ("second", True)
    assert perf_counter() - started < 10


async def test_a_record_is_not_brought_back_while_its_delete_is_refused(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    second.delete_error = DriverError(reason="not now")
    await driver.delete(stored.memory_id, "ada")

    async def parked() -> bool:
        pending = (await driver.health_check()).facts["pending"]
        return bool(pending.get("second", {}).get("refused"))

    await until(parked)
    with pytest.raises(DriverUnavailable):
        await driver.import_records([stored])
    second.delete_error = None
    await driver.catch_up("second")
    await settle(driver)
    assert await first.ids() == await second.ids() == set()
    await driver.import_records([stored])
    await settle(driver)
    assert await first.ids() == await second.ids() == {stored.memory_id}


async def test_all_are_waited_for_where_all_must_have_it(
    replicated: OpenReplicated, second: Held
) -> None:
    driver = await replicated(acknowledge="all")
    await driver.store("ada", "kettle 1")
    assert len(await second.ids()) == 1
    second.error = DriverUnavailable()
    with pytest.raises(DriverTimeout, match="Too few"):
        await driver.store("ada", "kettle 2")
    second.error = None
    await settle(driver)
    assert len(await second.ids()) == 2


async def test_a_replica_is_read_only_while_it_misses_nothing(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(reads="replicas")
    await driver.store("ada", "kettle")
    await settle(driver)
    first.calls.clear()
    second.calls.clear()
    for _ in range(4):
        assert len(await driver.recall("ada")) == 1
    assert (first.calls.count("recall"), second.calls.count("recall")) == (2, 2)
    second.error = DriverUnavailable()
    await driver.store("ada", "kettle 2")
    for _ in range(4):
        assert len(await driver.recall("ada")) == 2


async def test_what_a_driver_refuses_is_parked_and_the_rest_goes_on(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    second.error = DriverError(reason="too long for it")
    await driver.store("ada", "kettle 1")

    async def parked() -> bool:
        pending = (await driver.health_check()).facts["pending"]
        return bool(pending.get("second", {}).get("refused"))

    with capture_logs() as logs:
        await until(parked)
    assert "delivery_refused" in [log["event"] for log in logs]
    second.error = None
    stored = await driver.store("ada", "kettle 2")

    async def there() -> bool:
        return await second.ids() == {stored.memory_id}

    await until(there)
    health: DriverHealth = await driver.health_check()
    assert health.status == "degraded"
    assert "refused by second" in (health.detail or "")


async def test_what_was_not_delivered_survives_a_restart(
    replicated: OpenReplicated, first: Held, second: Held, journal: JournalSettings
) -> None:
    driver = await replicated()
    second.error = DriverUnavailable()
    stored = [await driver.store("ada", f"kettle {n}") for n in range(3)]
    await driver.delete(stored[0].memory_id, "ada")
    await driver.close()
    second.error = None
    again = ReplicatedDriver([first, second], ReplicatedSettings(), journal, OneVector(), Limits())
    async with again:
        await settle(again)
    assert await second.ids() == {m.memory_id for m in stored[1:]}


async def test_one_file_is_one_processes(
    replicated: OpenReplicated, first: Held, second: Held, journal: JournalSettings
) -> None:
    await replicated()
    other = ReplicatedDriver([first, second], ReplicatedSettings(), journal, OneVector(), Limits())
    with pytest.raises(ConfigurationError, match=r"MEMORY_JOURNAL_PATH.*MEMORY_JOURNAL_URL"):
        await other.open()
    await other.close()
