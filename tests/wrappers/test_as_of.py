"""`as_of`: the moment that a query speaks from reaches the driver that answers, as it was given."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Memory
from app.core.memory.requests import Recall
from app.core.memory.six_verbs import record_driver
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import InvalidInput
from app.settings import (
    CacheSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    ReplicatedSettings,
)
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver
from tests.service.six_verbs import SixVerbs

LIMITS = Limits()
GIVEN = datetime.fromisoformat("2026-05-08T01:30:00+09:00")

Opened: TypeAlias = Callable[
    [list[RecordDriver], Path, Embedder], AbstractAsyncContextManager[RecordDriver]
]


class Listening(InMemoryDriver):
    """Remembers what it was asked for."""

    def __init__(self, name: str, embedder: Embedder) -> None:
        super().__init__(embedder, LIMITS)
        self.name = name
        self.asked: list[Recall] = []

    async def _recall(self, wanted: Recall) -> list[Memory]:
        self.asked.append(wanted)
        return await super()._recall(wanted)


def failover(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AbstractAsyncContextManager[RecordDriver]:
    journal = JournalSettings(path=folder / "journal")
    return FailoverDriver(inner, FailoverSettings(), journal, embedder, LIMITS)


def replicated(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AbstractAsyncContextManager[RecordDriver]:
    journal = JournalSettings(path=folder / "journal")
    return ReplicatedDriver(inner, ReplicatedSettings(), journal, embedder, LIMITS)


@asynccontextmanager
async def cached(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AsyncIterator[RecordDriver]:
    async with CachedDriver(inner[0], new_store(CacheSettings()), "case", LIMITS) as driver:
        yield driver


@asynccontextmanager
async def scoped(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AsyncIterator[RecordDriver]:
    yield ScopedDriver(inner[0], "acme", LIMITS)


@asynccontextmanager
async def unscoped(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AsyncIterator[RecordDriver]:
    yield UnscopedDriver(inner[0], LIMITS)


@asynccontextmanager
async def itself(
    inner: list[RecordDriver], folder: Path, embedder: Embedder
) -> AsyncIterator[RecordDriver]:
    yield inner[0]


EVERY: list[Opened] = [itself, failover, replicated, cached, scoped, unscoped]


@pytest.mark.parametrize("opened", EVERY)
async def test_the_driver_that_answers_gets_the_moment_with_its_offset(
    opened: Opened, tmp_path: Path, embedder: Embedder
) -> None:
    listening = [Listening("first", embedder), Listening("second", embedder)]
    async with opened([*listening], tmp_path, embedder) as driver:
        await driver.recall("ada", query="yesterday", as_of=GIVEN)
        await driver.recall("ada", query="kettle")
    given, default = (wanted.as_of for wanted in listening[0].asked)
    assert given is not None
    assert given.isoformat() == "2026-05-08T01:30:00+09:00"
    assert default is None


async def test_a_moment_without_an_offset_is_in_utc(embedder: Embedder) -> None:
    driver = Listening("first", embedder)
    await driver.recall("ada", as_of=datetime(2026, 5, 8, 1, 30))
    assert driver.asked[0].as_of == datetime(2026, 5, 8, 1, 30, tzinfo=UTC)


async def test_what_is_no_moment_is_refused(embedder: Embedder) -> None:
    driver = Listening("first", embedder)
    with pytest.raises(InvalidInput, match="as_of must be a datetime"):
        await driver.recall("ada", as_of="2026-05-08T01:30:00Z")  # type: ignore[arg-type]
    assert driver.asked == []


async def test_a_driver_of_six_verbs_answers_without_it() -> None:
    driver = record_driver(SixVerbs(), LIMITS)
    stored = await driver.store("ada", "kettle")
    assert await driver.recall("ada", as_of=GIVEN) == [stored]
