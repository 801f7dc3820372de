"""A journal whose PostgreSQL accepts connections and does not answer, from the start or later."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import psutil
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from structlog.testing import capture_logs

from app.core.memory.records import Recalled
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.errors import JournalUnavailable
from app.journal.entries import Write
from app.journal.journal import Journal
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.failover import FailoverDriver
from tests.wrappers.flaky import FlakyDriver, OneVector

TIMEOUT = 1.5
INTERVAL = 0.05  # as `often` in conftest.py has it
AT_ONCE = 0.5
"""A call that waits for nothing takes less, also on a busy machine."""


class Freezer(EmbeddedPostgres):
    """A PostgreSQL of the test's own, whose processes can be stopped and go on."""

    _stopped: tuple[psutil.Process, ...] = ()

    def freeze(self) -> None:
        main = psutil.Process(self.pid)
        self._stopped = (main, *main.children(recursive=True))
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        self._send(signal.SIGCONT)
        self._stopped = ()

    def _send(self, what: signal.Signals) -> None:
        for process in self._stopped:
            if process.is_running():
                os.kill(process.pid, what)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Freezer]:
    server = Freezer(tmp_path / "server")
    await server.open()
    yield server
    server.thaw()
    await server.close()


@pytest.fixture
async def silent() -> AsyncIterator[str]:
    """The URL of who listens and never answers."""
    open_writers = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)
        await reader.read()

    listening = await asyncio.start_server(listen, "127.0.0.1", 0)
    yield f"postgresql://memory@127.0.0.1:{listening.sockets[0].getsockname()[1]}/journal"
    for writer in open_writers:
        writer.close()
    listening.close()


def settings(url: str, **more: Any) -> JournalSettings:
    return JournalSettings(url=SecretStr(url), **{"timeout": TIMEOUT, **more})


def failover(journal: JournalSettings) -> FailoverDriver:
    drivers = [FlakyDriver(name, Random(1), delay=0.001) for name in ("first", "second")]
    chosen = FailoverSettings(writes="journal", timeout=1)
    return FailoverDriver(drivers, chosen, journal, OneVector(), Limits(), "main")


async def seconds(called: Awaitable[Any]) -> float:
    started = perf_counter()
    await called
    return perf_counter() - started


async def recalled(driver: FailoverDriver) -> None:
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert found.degraded


async def until_found(journal: Journal) -> float:
    """Seconds until it answers."""
    started = perf_counter()
    async with asyncio.timeout(20):
        while True:
            try:
                await journal.count()
            except JournalUnavailable:
                await asyncio.sleep(0.02)
            else:
                return perf_counter() - started


def names(log: list[Any]) -> list[str]:
    return [line["event"] for line in log if line.get("backend") == "journal"]


async def test_reads_go_on_at_once_before_a_journal_that_never_answered(silent: str) -> None:
    driver = failover(settings(silent))
    assert await seconds(driver.open()) < TIMEOUT + 1
    times = await asyncio.gather(*(seconds(recalled(driver)) for _ in range(15)))
    assert max(times) < AT_ONCE
    started = perf_counter()
    with pytest.raises(JournalUnavailable):
        await driver.delete_user("ada")
    assert perf_counter() - started < AT_ONCE
    assert await seconds(driver.close()) < 1


async def test_all_who_find_it_silent_wait_for_one_attempt(silent: str) -> None:
    journal = Journal(settings(silent), "main")
    started = perf_counter()
    errors = await asyncio.gather(*(journal.count() for _ in range(15)), return_exceptions=True)
    assert perf_counter() - started < TIMEOUT + 1
    assert {type(error) for error in errors} == {JournalUnavailable}
    await journal.close()


async def test_a_journal_that_freezes_costs_one_wait_and_is_found_when_it_goes_on(
    server: Freezer, caplog: pytest.LogCaptureFixture
) -> None:
    driver = failover(settings(server.dsn))
    async with driver:
        await asyncio.gather(*(driver.recall(f"user{n}") for n in range(60)))
        with capture_logs() as log:
            server.freeze()
            times = await asyncio.gather(*(seconds(recalled(driver)) for _ in range(40)))
            assert max(times) < TIMEOUT + 1
            for _ in range(3):
                assert await seconds(recalled(driver)) < AT_ONCE
                await asyncio.sleep(INTERVAL)
            assert names(log) == ["backend_away"]
            server.thaw()
            assert await until_found(driver.members.journal) < TIMEOUT + INTERVAL + 1
            assert names(log) == ["backend_away", "backend_back"]
        memory = await driver.store("ada", "A jar.")
        assert await driver.delete(memory.memory_id, "ada")
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def frozen_at_rest(server: Freezer, journal: Journal) -> None:
    server.freeze()


async def frozen_and_known(server: Freezer, journal: Journal) -> None:
    server.freeze()
    with pytest.raises(JournalUnavailable):
        await journal.count()


async def frozen_while_asked(server: Freezer, journal: Journal) -> None:
    server.freeze()
    for task in [asyncio.create_task(journal.count()) for _ in range(30)]:
        await asyncio.sleep(0)
        task.cancel()


@pytest.mark.parametrize("freeze", [frozen_at_rest, frozen_and_known, frozen_while_asked])
async def test_a_frozen_journal_is_closed_soon_and_quietly(
    server: Freezer,
    freeze: Callable[[Freezer, Journal], Awaitable[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = Journal(settings(server.dsn, timeout=6), "main")
    await journal.open(["first"])
    await asyncio.gather(*(journal.count() for _ in range(60)))
    await freeze(server, journal)
    assert await seconds(journal.close()) < 4.5
    assert not [line for line in caplog.records if line.levelno >= logging.ERROR]


async def test_what_is_under_way_before_a_slow_journal_ends_before_it_is_closed(
    server: Freezer,
) -> None:
    journal = Journal(settings(server.dsn, timeout=6), "main")
    await journal.open(["first"])
    slow = asyncio.create_task(journal.database.execute(text("select pg_sleep(2)")))
    await asyncio.sleep(0.3)
    await journal.close()
    await slow


async def test_what_the_server_refuses_leaves_it_there(
    server: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.database.INTERVAL", 60)
    journal = Journal(settings(server.dsn), "main")
    await journal.open(["first"])
    with capture_logs() as log, pytest.raises(JournalUnavailable):
        await journal.database.execute(text("select 1 / 0"))
    assert await journal.count() == 0
    assert names(log) == []
    await journal.close()


async def test_one_statement_that_takes_too_long_does_not_lose_the_others_the_journal(
    server: Freezer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.database.INTERVAL", 60)
    journal = Journal(settings(server.dsn), "main")
    await journal.open(["first"])
    with pytest.raises(JournalUnavailable):
        await journal.database.execute(text("select pg_sleep(60)"))
    assert await until_found(journal) < 2  # it is asked at once
    await journal.append([Write(verb="delete_user", user_id="ada")], ["first"])
    assert await journal.count() == 1
    await journal.close()
