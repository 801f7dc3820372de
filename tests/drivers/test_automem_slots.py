"""No burst, no cancelled caller and no probe wears the connections to AutoMem out."""

import asyncio
import time

import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.drivers.automem import AutomemDriver
from app.errors import PoolExhausted
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem

SLOTS = 20


async def slow(request: Request) -> Response | None:
    await asyncio.sleep(0.2)
    return None


class SideBySide:
    """Lets each call of a fake take its time, and tells how many were under way together."""

    def __init__(self, seconds: float) -> None:
        self.most = 0
        self._seconds = seconds
        self._under_way = 0

    async def __call__(self, request: Request) -> Response | None:
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(self._seconds)
        self._under_way -= 1
        return None


async def check_all_slots(automem: AutomemDriver, fake: FakeAutomem) -> None:
    """That as many calls as there are slots still run side by side."""
    fake.before = calls = SideBySide(0.5)
    await asyncio.gather(*(automem.recall("ada") for _ in range(2 * SLOTS)))
    fake.before = None
    assert calls.most == SLOTS


async def test_bursts_and_cancelled_callers_lose_no_slot(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(pool_size=SLOTS, slot_timeout=1.0)
    await automem.store("ada", "a copper kettle")
    fake.before = slow
    answers = await asyncio.gather(
        *(automem.recall("ada") for _ in range(300)), return_exceptions=True
    )
    assert all(isinstance(one, (list, PoolExhausted)) for one in answers)
    assert any(isinstance(one, PoolExhausted) for one in answers)
    for round_ in range(3):
        callers = [asyncio.create_task(automem.recall("ada")) for _ in range(120)]
        await asyncio.sleep(0.1 + 0.05 * round_)
        for n, caller in enumerate(callers):
            if n % 7:
                caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    fake.before = None
    await check_all_slots(automem, fake)


async def test_probes_answer_beside_callers_that_take_every_connection(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(pool_size=SLOTS)
    await automem.store("ada", "a copper kettle")

    async def slow_recalls(request: Request) -> Response | None:
        return await slow(request) if request.url.path.startswith("/memory") else None

    fake.before = slow_recalls
    end = time.monotonic() + 2

    async def recaller() -> int:
        count = 0
        while time.monotonic() < end:
            assert len(await automem.recall("ada")) == 1
            count += 1
        return count

    async def prober() -> set[str]:
        states: set[str] = set()
        while time.monotonic() < end:
            states.add((await automem.health_check()).status)
            await asyncio.sleep(0.05)
        return states

    counts = asyncio.gather(*(recaller() for _ in range(60)))
    assert await asyncio.gather(*(prober() for _ in range(3))) == [{"ok"}] * 3
    assert min(await counts) > 0
    fake.before = None
    await check_all_slots(automem, fake)


async def test_a_call_waits_for_a_slot_no_longer_than_the_setting_says(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(pool_size=1, slot_timeout=0.2)
    fake.before = slow
    first = asyncio.create_task(automem.recall("ada"))
    await asyncio.sleep(0.05)

    async def stall(request: Request) -> Response | None:
        await asyncio.sleep(1)
        return None

    fake.before = stall
    await first
    holder = asyncio.create_task(automem.recall("ada"))
    await asyncio.sleep(0.1)
    with pytest.raises(PoolExhausted):
        await automem.store("ada", "a copper kettle")
    assert [method for method, _ in fake.calls].count("POST") == 0
    assert await holder == []


async def test_one_recall_looks_up_few_legacy_memories_at_a_time(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    automem = await open_automem(pool_size=SLOTS, slot_timeout=0.5, legacy_tag="user:{user_id}")
    fake.unembedded += [fake.add(f"kettle number {n}", ["user:ada"]) for n in range(100)]
    await fake.catch_up()
    fake.before = calls = SideBySide(0.2)
    assert len(await automem.recall("ada", query="kettle number 0", top_k=90)) == 90
    assert calls.most < SLOTS
