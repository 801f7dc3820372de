"""Recency through wrapping drivers."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any, TypeAlias

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory, Recalled
from app.core.memory.requests import Recall, Recency
from app.embedding import Embedder
from app.errors import CapabilityMissing
from app.settings import (
    CacheSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from app.wrappers.base import WrappingDriver
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver
from tests.service.six_verbs import SixVerbs
from tests.wrappers.held import Held

LIMITS = Limits()
RECENCY = Recency(30.0, 0.1)


class Weighing(Held):
    """Keeps what it was asked to weigh."""

    weighs_recency = True

    def __init__(self, name: str, embedder: Embedder) -> None:
        super().__init__(name, embedder)
        self.asked: list[Recency | None] = []

    async def _recall(self, wanted: Recall) -> list[Memory]:
        self.asked.append(wanted.recency)
        return await super()._recall(wanted)


Wrap: TypeAlias = Callable[[RecordDriver, RecordDriver, JournalSettings, Embedder], WrappingDriver]

WRAPPERS: dict[str, Wrap] = {
    "cached": lambda one, _, __, ___: CachedDriver(one, new_store(CacheSettings()), "test", LIMITS),
    "failover": lambda one, other, journal, embedder: FailoverDriver(
        [one, other], FailoverSettings(), journal, embedder, LIMITS
    ),
    "replicated": lambda one, other, journal, embedder: ReplicatedDriver(
        [one, other], ReplicatedSettings(), journal, embedder, LIMITS
    ),
    "scoped": lambda one, _, __, ___: ScopedDriver(one, "acme", LIMITS),
    "unscoped": lambda one, _, __, ___: UnscopedDriver(one, LIMITS),
}


@pytest.fixture
def weighing(embedder: Embedder) -> Weighing:
    return Weighing("first", embedder)


@pytest.fixture
async def wrap(
    weighing: Weighing, embedder: Embedder, journal: JournalSettings
) -> AsyncIterator[Callable[..., Any]]:
    """Opens a wrapping driver of that name over `weighing`, and over `other` where it holds two."""
    async with AsyncExitStack() as stack:

        async def opened(name: str, other: RecordDriver | None = None) -> WrappingDriver:
            second = other or Weighing("second", embedder)
            driver = WRAPPERS[name](weighing, second, journal, embedder)
            return await stack.enter_async_context(driver)

        yield opened


@pytest.mark.parametrize("name", WRAPPERS)
async def test_recency_reaches_the_driver_that_is_asked(
    name: str, wrap: Callable[..., Any], weighing: Weighing
) -> None:
    driver = await wrap(name)
    await driver.store("ada", "kettle")
    assert "weigh_recency" in driver.capabilities()
    assert len(await driver.recall("ada", query="kettle", recency=RECENCY)) == 1
    assert len(await driver.recall("ada", query="kettle")) == 1
    assert weighing.asked == [RECENCY, None]


@pytest.mark.parametrize("name", ["failover", "replicated"])
async def test_what_one_of_its_drivers_can_t_weigh_none_is_asked_for(
    name: str, wrap: Callable[..., Any], weighing: Weighing, embedder: Embedder
) -> None:
    other = Held("second", embedder)
    other.weighs_recency = False
    driver = await wrap(name, other)
    assert "weigh_recency" not in driver.capabilities()
    with pytest.raises(CapabilityMissing):
        await driver.recall("ada", query="kettle", recency=RECENCY)
    assert weighing.asked == []


async def test_a_driver_of_six_verbs_behind_a_cache_is_not_asked_for_recency() -> None:
    async with CachedDriver(SixVerbs(), new_store(CacheSettings()), "test", LIMITS) as driver:
        with pytest.raises(CapabilityMissing):
            await driver.recall("ada", query="kettle", recency=RECENCY)


async def test_another_recency_is_another_question_to_a_cache(
    wrap: Callable[..., Any], weighing: Weighing
) -> None:
    driver = await wrap("cached")
    await driver.store("ada", "kettle")
    asked = [None, RECENCY, Recency(31.0, 0.1), Recency(30.0, 0.2)]
    for cached in (False, True):
        for recency in asked:
            found = await driver.recall("ada", query="kettle", recency=recency)
            assert isinstance(found, Recalled)
            assert found.cached == cached, recency
    assert weighing.asked == asked
