"""`delete_many` through services that share a journal goes by the moment that all of them know."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import time

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.settings import CacheSettings, FailoverSettings, JournalSettings, Limits
from app.settings import ReplicatedSettings as Replicated
from app.wrappers.cached import CachedDriver, new_store
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.conftest import NewDatabase
from tests.wrappers.flaky import OneVector
from tests.wrappers.held import Held

AHEAD = 0.04
"""Seconds that clocks which share a journal may differ."""


@pytest.fixture(params=["failover", "replicated", "cached over failover"])
async def services(
    request: pytest.FixtureRequest,
    new_database: NewDatabase,
    tmp_path: Path,
    first: Held,
    second: Held,
) -> AsyncIterator[list[RecordDriver]]:
    """Two of them, of which the first is ahead."""
    journal = JournalSettings(url=SecretStr(await new_database()), path=tmp_path)
    make: dict[str, Callable[[], RecordDriver]] = {
        "failover": lambda: FailoverDriver(
            [first, second], FailoverSettings(), journal, OneVector(), Limits()
        ),
        "replicated": lambda: ReplicatedDriver(
            [first, second], Replicated(), journal, OneVector(), Limits()
        ),
    }
    outer, _, inner = str(request.param).partition(" over ")
    async with AsyncExitStack() as stack:
        opened: list[RecordDriver] = []
        for _ in range(2):
            driver = make[inner or outer]()
            if inner:
                driver = CachedDriver(driver, new_store(CacheSettings()), "test", Limits())
            opened.append(await stack.enter_async_context(driver))
        opened[0].clock.set_floor(time() + AHEAD)
        yield opened


async def test_what_a_service_that_is_ahead_has_stored_is_deleted(
    services: list[RecordDriver], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine where no time passes between the store and the delete."""
    ahead, behind = services
    now = time()
    monkeypatch.setattr("app.core.memory.clock.time", lambda: now)
    ahead.clock.set_floor(now + AHEAD)
    await ahead.store("ada", "kettle", "kitchen")
    assert await behind.delete_many("ada", "kitchen") == 1
    assert (await behind.list_memories("ada")).memories == []


async def test_what_is_stored_after_the_answer_stays(services: list[RecordDriver]) -> None:
    ahead, behind = services
    for n in range(3):
        ahead.clock.set_floor(time() + AHEAD)
        await ahead.delete_many("ada", "kitchen")
        stored = await behind.store("ada", f"kettle {n}", "kitchen")
        assert await ahead.delete_many("ada", "kitchen", before=stored.created_at) == 0
        assert [one.memory_id for one in (await behind.list_memories("ada")).memories] == [
            stored.memory_id
        ]
        assert await ahead.delete_many("ada", "kitchen") == 1
