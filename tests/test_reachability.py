"""Whether a backend is there: who tells, who asks, and what is told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from time import monotonic
from typing import Any, TypeAlias

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.reachability import Reachability

NewReachability: TypeAlias = Callable[..., Reachability]


@pytest.fixture
async def made() -> AsyncIterator[NewReachability]:
    """Makes some that probe soon; stopped after the test."""
    all_made = []

    def make(**options: Any) -> Reachability:
        all_made.append(Reachability("kettle", "KETTLE_URL", pauses=(0.01, 0.01), **options))
        return all_made[-1]

    yield make
    for each in all_made:
        await each.stop()


def told() -> float | None:
    """What the metrics say."""
    labels = {"backend": "kettle", "where": "KETTLE_URL"}
    return REGISTRY.get_sample_value("memory_driver_backend_away", labels)


async def until_back(reachability: Reachability) -> None:
    async with asyncio.timeout(5):
        while reachability.away:
            await asyncio.sleep(0.005)


async def test_each_change_is_told_once_and_calls_find_it_without_a_probe(
    made: NewReachability,
) -> None:
    back: list[float | None] = []
    kettle = made(on_back=lambda: back.append(told()))
    with capture_logs() as logs:
        for _ in range(2):
            kettle.failed("cold")
            assert (kettle.away, told()) == (True, 1)
        for _ in range(2):
            kettle.answered()
            assert (kettle.away, told()) == (False, 0)
    names = {"backend": "kettle", "where": "KETTLE_URL", "log_level": "warning"}
    assert logs == [
        {"event": "backend_away", "reason": "cold", **names},
        {"event": "backend_back", **names},
    ]
    assert back == [0]


async def test_only_failures_in_a_row_make_it_away(made: NewReachability) -> None:
    kettle = made(failures=2)
    kettle.failed("cold")
    kettle.answered()
    kettle.failed("cold")
    assert not kettle.away
    kettle.failed("cold")
    assert kettle.away


async def test_a_call_that_began_before_a_change_counts_for_nothing(made: NewReachability) -> None:
    kettle = made()
    before = monotonic()
    kettle.failed("cold")
    kettle.answered(before)
    assert kettle.away
    kettle.answered(monotonic())
    kettle.failed("cold", before)
    assert not kettle.away


async def test_a_probe_that_raises_or_hangs_does_not_end_the_probing(
    made: NewReachability,
) -> None:
    answers: list[Any] = [ZeroDivisionError(), TimeoutError(), 60.0, False, True]

    async def probe() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, float):
            await asyncio.sleep(answer)
        return bool(answer)

    kettle = made(probe=probe, limit=0.05)
    kettle.failed("cold")
    with capture_logs() as logs:
        await until_back(kettle)
    assert answers == []
    assert [line["event"] for line in logs] == ["probe_failed", "backend_back"]


async def test_a_call_that_is_answered_ends_the_probing(made: NewReachability) -> None:
    before = asyncio.all_tasks()

    async def probe() -> bool:
        return False

    kettle = made(probe=probe)
    kettle.failed("cold")
    await asyncio.sleep(0.02)
    kettle.answered()
    await asyncio.sleep(0.02)
    assert asyncio.all_tasks() <= before


async def test_what_is_stopped_probes_no_more_until_it_is_started(made: NewReachability) -> None:
    before = asyncio.all_tasks()

    async def probe() -> bool:
        return True

    kettle = made(probe=probe)
    kettle.failed("cold")
    await kettle.stop()
    kettle.failed("cold")
    assert (kettle.away, told()) == (False, 0)
    assert asyncio.all_tasks() == before
    kettle.start()
    kettle.failed("cold")
    assert kettle.away
    await until_back(kettle)
