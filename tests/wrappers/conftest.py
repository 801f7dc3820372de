"""Two drivers to hold, and wrapping drivers over them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from app.core.memory.wrappers.failover import FailoverDriver
from app.core.memory.wrappers.replicated import ReplicatedDriver
from app.embedding import Embedder
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from tests.wrappers.held import Held

OpenFailover: TypeAlias = Callable[..., Awaitable[FailoverDriver]]
OpenReplicated: TypeAlias = Callable[..., Awaitable[ReplicatedDriver]]


@pytest.fixture
def first(embedder: Embedder) -> Held:
    return Held("first", embedder)


@pytest.fixture
def second(embedder: Embedder) -> Held:
    return Held("second", embedder)


@pytest.fixture
def journal(tmp_path: Path) -> JournalSettings:
    return JournalSettings(path=tmp_path / "journal", interval=0.05)


@pytest.fixture
async def failover(
    first: Held, second: Held, journal: JournalSettings, embedder: Embedder
) -> AsyncIterator[OpenFailover]:
    """Opens one over both drivers, which probes quickly; closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> FailoverDriver:
            chosen = FailoverSettings(**{"cooldown": 0.05, "timeout": 1.0, **settings})
            driver = FailoverDriver([first, second], chosen, journal, embedder, Limits())
            return await stack.enter_async_context(driver)

        yield opened


@pytest.fixture
async def replicated(
    first: Held, second: Held, journal: JournalSettings
) -> AsyncIterator[OpenReplicated]:
    """Opens one over both drivers; closed after the test."""
    async with AsyncExitStack() as stack:

        async def opened(**settings: Any) -> ReplicatedDriver:
            chosen = ReplicatedSettings(**{"timeout": 1.0, **settings})
            driver = ReplicatedDriver([first, second], chosen, journal, Limits())
            return await stack.enter_async_context(driver)

        yield opened
