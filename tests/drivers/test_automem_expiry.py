"""What has expired leaves AutoMem within the hour after, and costs no call while nothing has."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.records import OLDER_VERSIONS, Memory, NewMemory
from app.drivers.automem import AutomemDriver
from app.drivers.automem.hours import ended_hours, hours_of
from app.drivers.automem.lookup import TAGS_A_CALL
from app.errors import DriverUnavailable
from tests.clocks import let_pass
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.automem_updates import first, refuse
from tests.drivers.conftest import OpenAutomem

HOUR = timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2050, 1, 1), timezones=st.just(UTC))


def end_of(memory: Memory) -> datetime:
    """When the memory expires."""
    assert memory.expires_at is not None
    return memory.expires_at


@given(moment=moments, now=moments)
def test_every_ended_hour_is_in_one_span_and_no_other_hour(moment: datetime, now: datetime) -> None:
    ended = ended_hours(now)
    assert len(set(ended)) == len(ended) <= TAGS_A_CALL
    has_ended = (moment - START) // HOUR < (now - START) // HOUR
    assert len(set(ended) & set(hours_of(moment))) == has_ended


@pytest.mark.parametrize("hours", [*range(25), 99, 100, 101, 999, 1_000, 9_999, 10_000, 10_001])
def test_the_hours_around_a_span_are_told_apart(hours: int) -> None:
    ended = set(ended_hours(START + hours * HOUR))
    assert not ended & set(hours_of(START + hours * HOUR))
    if hours:
        assert len(ended & set(hours_of(START + hours * HOUR - timedelta(microseconds=1)))) == 1
        assert len(ended & set(hours_of(START - HOUR))) == 1


async def test_what_has_expired_is_deleted_after_its_hour_and_all_else_stays(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    stays = [await automem.store("ada", "kettle"), await automem.store("ada", "tea", ttl=9 * 3_600)]
    short = await automem.store_many(
        [NewMemory(user_id=f"user {n}", content="kettle", ttl=1_000 + n) for n in range(450)]
    )
    known = await automem.store_global_knowledge("kettle", "kitchen", ttl=1_000)
    fake.calls.clear()
    assert await automem.sweeper.sweep() == 0
    assert len(fake.calls) == 1
    let_pass(automem, end_of(short[-1]))
    fake.calls.clear()
    deleted = await automem.sweeper.sweep()
    let_pass(automem, end_of(short[-1]) + HOUR)
    assert deleted + await automem.sweeper.sweep() == 451
    # Each is deleted by a call of its own, and pages of 200 tell which.
    assert len(fake.calls) <= 451 + 2 + 3
    assert len(fake.graph) == len(fake.vectors) == 2
    assert await automem.recall("ada") == stays[::-1]
    assert await automem.get_knowledge(known.knowledge_id) is None


async def test_an_update_decides_anew_when_a_memory_is_deleted(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    longer, for_good, shorter = await automem.store_many(
        [NewMemory(user_id="ada", content="kettle", ttl=ttl) for ttl in (1_000, 1_000, 10**7)]
    )
    await automem.update(longer.memory_id, "ada", {"ttl": 20_000})
    await automem.update(for_good.memory_id, "ada", {"expires_at": None})
    await automem.update(shorter.memory_id, "ada", {"ttl": 1_000})
    let_pass(automem, end_of(longer) + 2 * HOUR)
    assert await automem.sweeper.sweep() == 0
    found = [memory.memory_id for memory in await automem.recall("ada")]
    assert found == [for_good.memory_id, longer.memory_id]
    # An older version may still be on its way here: what was updated stays for that time.
    let_pass(automem, end_of(longer) + OLDER_VERSIONS + 2 * HOUR)
    assert await automem.sweeper.sweep() == 1
    let_pass(automem, end_of(longer) + OLDER_VERSIONS + 10 * HOUR)
    assert await automem.sweeper.sweep() == 1
    assert [memory.memory_id for memory in await automem.recall("ada")] == [for_good.memory_id]
    assert len(fake.graph) == 1


async def test_an_older_version_that_stayed_comes_not_back_and_goes_too(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    lasting = await automem.store("ada", "kettle")
    shortened = await automem.store("ada", "kettle, too", ttl=1_000)
    refuse(fake, "DELETE")
    await automem.update(lasting.memory_id, "ada", {"ttl": 1_000})
    last = await automem.update(shortened.memory_id, "ada", {"ttl": 10**7})
    fake.before = None
    assert last is not None
    let_pass(automem, end_of(shortened) + 2 * HOUR)
    assert await automem.recall("ada") == [last]
    # The older version of what lasts now goes by its own end.
    assert await automem.sweeper.sweep() == 1
    assert await automem.recall("ada") == [last]
    assert len(fake.graph) == 3
    let_pass(automem, end_of(shortened) + OLDER_VERSIONS + 2 * HOUR)
    assert await automem.sweeper.sweep() == 1
    assert await automem.recall("ada") == [last]
    assert len(fake.graph) == 1


async def test_an_update_that_is_under_way_is_waited_for(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    memory = await automem.store("ada", "kettle", ttl=1_000)
    fake.before = gate = first("POST")
    update = asyncio.create_task(automem.update(memory.memory_id, "ada", {"expires_at": None}))
    await gate.reached.wait()
    let_pass(automem, end_of(memory) + 2 * HOUR)
    sweep = asyncio.create_task(automem.sweeper.sweep())
    while len(fake.calls) < 5:
        await asyncio.sleep(0)
    gate.open.set()
    changed = await update
    assert await sweep == 0
    assert changed is not None
    assert await automem.recall("ada") == [changed]


async def test_what_the_database_can_not_tell_now_is_swept_later(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    memory = await automem.store("ada", "kettle", ttl=1_000)
    let_pass(automem, end_of(memory) + 2 * HOUR)
    fake.database_up = False
    with pytest.raises(DriverUnavailable):
        await automem.sweeper.sweep()
    fake.database_up = True
    assert await automem.sweeper.sweep() == 1
    assert fake.graph == {}


async def test_services_that_sweep_at_once_count_each_record_once(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    drivers = [await open_automem() for _ in range(3)]
    batch = [NewMemory(user_id="ada", content="kettle", ttl=1_000) for _ in range(250)]
    stored = await drivers[0].store_many(batch)
    for driver in drivers:
        let_pass(driver, end_of(stored[-1]) + 2 * HOUR)
    counts = await asyncio.gather(*(driver.sweeper.sweep() for driver in drivers))
    while fake.graph:
        counts.append(await drivers[0].sweeper.sweep())
    assert sum(counts) == 250


async def test_an_import_of_what_expired_long_ago_goes_with_the_next_sweep(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    memory = await automem.store("ada", "kettle")
    gone = datetime(1999, 12, 31, tzinfo=UTC)
    old = replace(memory, user_id="bob", created_at=gone, updated_at=gone, expires_at=gone)
    await automem.import_records([old])
    assert await automem.recall("bob") == []
    assert await automem.sweeper.sweep() == 1
    assert len(fake.graph) == 1
