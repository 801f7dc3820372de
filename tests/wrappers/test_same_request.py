"""One record for one request, while drivers are away, writers end amid a store, and afterwards."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Literal

import pytest
from structlog.testing import capture_logs

from app.core.memory.clock import Clock
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, NewMemory, new_memory
from app.embedding import Embedder
from app.errors import Conflict, ConnectionLost, DeletePending, DriverUnavailable
from app.journal.entries import once_of
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.clocks import let_pass
from tests.conformance.test_expiry import expiry
from tests.wrappers.alone import left_alone
from tests.wrappers.conftest import OpenFailover, OpenReplicated
from tests.wrappers.held import Held
from tests.wrappers.settled import settle

ONE = "00000000-0000-4000-8000-0000000000a1"
TWO = "00000000-0000-4000-8000-0000000000a2"


async def store(driver: RecordDriver, content: str = "A kettle.", one: str = ONE) -> Memory:
    return await driver.store("ada", content, memory_id=one)


async def listed(driver: RecordDriver) -> list[Memory]:
    return (await driver.list_memories("ada")).memories


async def at_once(stores: list[Awaitable[Memory]]) -> Memory:
    """What all of them give: one makes it, and the others find it."""
    answers = await asyncio.gather(*stores)
    assert sum(not answer.repeated for answer in answers) == 1
    assert all(answer == answers[0] for answer in answers)
    return answers[0]


Opened = FailoverDriver | ReplicatedDriver


@pytest.fixture(params=["failover", "replicated"])
def accepting(
    request: pytest.FixtureRequest, failover: OpenFailover, replicated: OpenReplicated
) -> Callable[[], Awaitable[Opened]]:
    """Opens a driver whose journal answers for a primary that is away."""

    async def opened() -> Opened:
        if request.param == "failover":
            return await failover(writes="journal")
        return await replicated(acknowledge="journal")

    return opened


async def test_the_journal_takes_one_record_for_sixteen_requests(
    accepting: Callable[[], Awaitable[Opened]], first: Held
) -> None:
    driver = await accepting()
    first.error = DriverUnavailable()
    stored = await at_once([store(driver) for _ in range(16)])
    assert await listed(driver) == [stored]
    with pytest.raises(Conflict):
        await store(driver, "A pan.")
    with pytest.raises(Conflict) as error:
        await driver.store_many(
            [
                NewMemory(user_id="ada", content="A jar.", memory_id=TWO),
                NewMemory(user_id="ada", content="A pan.", memory_id=ONE),
            ]
        )
    assert error.value.loc == ("memories", 1)
    assert await listed(driver) == [stored]
    first.error = None
    assert (await store(driver)).repeated
    await settle(driver)
    assert await listed(driver) == [stored]
    assert await first.ids() == {ONE}
    again = await store(driver)
    assert (again, again.repeated) == (stored, True)


async def test_a_pending_record_is_found_as_it_is_now(
    accepting: Callable[[], Awaitable[Opened]], first: Held
) -> None:
    driver = await accepting()
    first.error = DriverUnavailable()
    await store(driver)
    updated = await driver.update(ONE, "ada", {"tags": ["old"]})
    again = await store(driver)
    assert (again, again.repeated) == (updated, True)
    first.error = None
    await settle(driver)
    assert await first.get(ONE, "ada") == updated


@pytest.mark.parametrize("kind", ["failover", "replicated"])
async def test_processes_that_share_a_journal_make_one_record(
    first: Held,
    second: Held,
    embedder: Embedder,
    file_or_shared: JournalSettings,
    kind: Literal["failover", "replicated"],
) -> None:
    count = 2 if file_or_shared.url is not None else 1
    async with AsyncExitStack() as stack:
        drivers: list[Opened] = []
        for _ in range(count):
            inner = [first, second]
            with left_alone(seconds=0.05):
                driver: Opened = (
                    FailoverDriver(
                        inner,
                        FailoverSettings(writes="journal"),
                        file_or_shared,
                        embedder,
                        Limits(),
                    )
                    if kind == "failover"
                    else ReplicatedDriver(
                        inner,
                        ReplicatedSettings(acknowledge="journal"),
                        file_or_shared,
                        embedder,
                        Limits(),
                    )
                )
            drivers.append(await stack.enter_async_context(driver))
        first.error = DriverUnavailable()
        stored = await at_once([store(drivers[n % count]) for n in range(16)])
        first.error = None
        for driver in drivers:
            await settle(driver)
            assert await listed(driver) == [stored]
            assert (await store(driver)).repeated


async def test_what_another_driver_has_is_not_stored_again(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    kept = await store(second)
    first.error = DriverUnavailable()
    again = await store(driver)
    assert (again, again.repeated) == (kept, True)
    with pytest.raises(Conflict):
        await store(driver, "A pan.")


async def test_what_another_driver_has_of_the_same_moment_is_repeated(
    failover: OpenFailover, first: Held, second: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary refused this store for certain, so that the other record is another store's."""
    driver = await failover(writes="journal")
    kept = await store(second)
    first.error = DriverUnavailable()
    monkeypatch.setattr(Clock, "new_id", lambda _: (TWO, kept.created_at))
    again = await store(driver)
    assert (again, again.created_at, again.repeated) == (kept, kept.created_at, True)


async def test_a_store_that_comes_late_undoes_no_update(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    await store(driver)
    updated = await driver.update(ONE, "ada", {"content": "An iron kettle."})
    first.error = DriverUnavailable()
    await store(driver)  # nobody who answers knows of the record
    first.error = None
    await settle(driver)
    assert await driver.get(ONE, "ada") == updated
    assert (await store(driver)) == updated


@pytest.mark.parametrize("same", [True, False])
async def test_a_store_of_a_killed_writer_undoes_no_update(
    replicated: OpenReplicated, first: Held, second: Held, same: bool
) -> None:
    driver = await replicated(acknowledge="all")
    content = "A kettle." if same else "A pan."
    new = NewMemory(user_id="ada", content=content, memory_id=ONE)
    await store(driver)
    updated = await driver.update(ONE, "ada", {"tags": ["old"]})
    lost = new_memory(new, Limits(), clock=driver.clock)  # later than what is there
    await driver.members.journal.append_once(once_of([lost]), ["first", "second"], undecided=False)
    driver.members.wake_dispatchers()
    await settle(driver)
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == updated


async def test_a_store_of_a_killed_writer_is_made_once(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    new = NewMemory(user_id="ada", content="A kettle.", memory_id=ONE)
    lost = new_memory(new, Limits(), clock=driver.clock)
    await driver.members.journal.append_once(once_of([lost]), ["first", "second"], undecided=False)
    assert not (await store(driver)).repeated or await first.get(ONE, "ada") == lost
    driver.members.wake_dispatchers()
    await settle(driver)
    assert await first.ids() == await second.ids() == {ONE}
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == await store(driver)


async def test_a_retry_after_a_cut_connection_finds_the_record(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    first.error_after = ConnectionLost()
    with pytest.raises(ConnectionLost):
        await store(driver)
    first.error_after = None
    again = await store(driver)
    assert again.repeated
    await settle(driver)
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == again


async def test_a_retry_after_a_cut_connection_through_failover_finds_the_record(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    first.error_after = ConnectionLost()
    stored = await store(driver)
    first.error_after = None
    await settle(driver)
    again = await store(driver)
    assert (again, again.repeated) == (stored, True)
    assert await first.get(ONE, "ada") == stored


async def test_what_a_cancelled_caller_stored_is_one_record(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(timeout=0.1)
    first.slow = 0.2
    storing = asyncio.create_task(store(driver))
    async with asyncio.timeout(10):
        while "keep" not in first.calls:
            await asyncio.sleep(0.01)
    storing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await storing
    first.slow = 0.0
    again = await store(driver)
    await settle(driver)
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == again


async def test_a_deleted_id_is_not_stored_again_while_its_delete_is_pending(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(timeout=0.2)
    await store(driver)
    await settle(driver)
    second.error = DriverUnavailable()
    assert await driver.delete(ONE, "ada")
    with pytest.raises(DeletePending):
        await store(driver)
    assert await listed(driver) == []
    second.error = None
    await settle(driver)
    again = await store(driver)
    assert not again.repeated
    await settle(driver)
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == again


async def test_what_a_forgotten_user_stores_again_under_an_id_stays(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    await store(driver)
    await settle(driver)
    second.error = DriverUnavailable()
    await driver.update(ONE, "ada", {"tags": ["old"]})
    assert await driver.delete_user("ada") == 1
    again = await store(driver, "A pan.")
    assert not again.repeated
    second.error = None
    await settle(driver)
    assert await first.get(ONE, "ada") == await second.get(ONE, "ada") == again


async def test_an_id_that_an_expired_record_gave_up_while_it_waited_is_the_next_ones(
    accepting: Callable[[], Awaitable[Opened]], first: Held
) -> None:
    driver = await accepting()
    first.error = DriverUnavailable()
    for content in ("A cup.", "A cup.", "A pan."):
        brief = await driver.store("ada", content, memory_id=ONE, ttl=1_000)
        assert not brief.repeated
        let_pass(driver, expiry(brief))
    kettle = await store(driver)
    assert await listed(driver) == [kettle]
    first.error = None
    with capture_logs() as logs:
        await settle(driver)
    assert await listed(driver) == [kettle]
    assert await first.get(ONE, "ada") == kettle
    assert (await store(driver)).repeated
    assert "delivery_dropped" not in [entry["event"] for entry in logs]
