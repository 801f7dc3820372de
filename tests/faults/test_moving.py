"""Moving to another database without a gap; and commands killed with SIGKILL amid their work."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from random import Random

import asyncpg
import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from app.core.memory.derived import Derived
from app.core.memory.records import Memory, Record
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from app.transfer.batches import MOST
from app.transfer.copying import verify
from tests.commands.running import run_command
from tests.conftest import NewDatabase
from tests.faults.load import WRITES, Load, settled
from tests.faults.server import Server, rows
from tests.faults.setting import two
from tests.forks import Fork, program
from tests.service.service import Service
from tests.storm import times
from tests.transfer.records import MOMENT

RECORDS = times(4_000, 20_000)
KILLS = times(3, 10)
AROUND = {
    "PATH": "/usr/bin:/bin",
    "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
    "MEMORY_EMBEDDING_ENGINE": os.environ["MEMORY_EMBEDDING_ENGINE"],
    "MEMORY_EMBEDDING_THREADS": "1",
    "MEMORY_LOG_LEVEL": "error",
}


class Steady(Load):
    """As much load as a replica can follow, where one machine has all of the processes."""

    async def _write(self, client: httpx.AsyncClient) -> None:
        await super()._write(client)
        await asyncio.sleep(self.random.uniform(0.3, 1))


async def test_a_service_under_load_moves_to_another_database(
    first: Server,
    second: Server,
    third: Server,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As docs/moving.md tells it; no acknowledged write is lost, and no deleted one is back."""
    monkeypatch.setattr("tests.faults.load.CLIENTS", 6)
    setting = await two("replicated", first, second, MEMORY_JOURNAL_URL=await third.database())
    old = {**setting.settings, "MEMORY_DRIVER": "first"}
    swapped = {**setting.settings, "MEMORY_DRIVERS__MAIN__INNER": "second,first"}
    new = {**setting.settings, "MEMORY_DRIVER": "second"}
    load, count = Steady(), WRITES // 3

    with Service(old) as service:
        await load.run([service], count)
    with contextlib.ExitStack() as stack:
        both = stack.enter_context(Service(setting.settings))
        writing = asyncio.create_task(load.run([both], 1_000_000))
        copied = await run_command(
            root,
            {**AROUND, **setting.settings},
            "copy",
            "first",
            "second",
            "--state",
            str(tmp_path / "state"),
        )
        assert copied.returncode == 0, copied.stdout + copied.stderr
        assert copied.stdout.startswith("second got ")
        assert "second holds what first holds" in copied.stdout
        await load.progress(count)
        other = stack.enter_context(Service(swapped))  # it begins while the other still serves
        switching = asyncio.create_task(load.run([other], 1_000_000))
        await load.progress(count)
        load.over = True
        await writing
        await switching
        await settled(both)
        await settled(other)
        both.stop()
        load.over = False
        last = stack.enter_context(Service(new))
        await load.run([other, last], count)
        await settled(other)
    load.check(await rows(setting.second))
    assert not load.lost
    assert not load.refused


class Killed:
    """A command that is killed again and again, each time farther on."""

    def __init__(self, root: Path, settings: dict[str, str], *words: str) -> None:
        self._root, self._words = root, words
        self._settings = {**AROUND, **settings}

    async def kill(self, is_there: Callable[[], Awaitable[bool]]) -> None:
        """Start it, and kill it once it is there."""
        process = self._started()
        while process.poll() is None and not await is_there():
            await asyncio.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait, 60)

    def _started(self) -> Fork | subprocess.Popen[bytes]:
        with open(os.devnull, "r+") as nothing:
            return program(self._words, self._settings, self._root, (nothing, nothing, nothing))

    async def end(self) -> subprocess.CompletedProcess[str]:
        return await run_command(self._root, self._settings, *self._words)


@pytest.fixture
async def filled(new_database: NewDatabase, embedder: Embedder) -> AsyncIterator[PgvectorDriver]:
    """A database with many records of a few users."""
    settings = DatabaseSettings(url=SecretStr(await new_database()))
    async with PgvectorDriver(settings, embedder, Limits()) as driver:
        random = np.random.default_rng(17)
        for start in range(0, RECORDS, 500):
            records: list[Record] = [
                Memory(
                    memory_id=f"00000000-0000-4000-8000-{n:012}",
                    user_id=f"user {n // 900}",
                    content=f"Kettle {n} stands on shelf {n % 7}.",
                    created_at=MOMENT,
                )
                for n in range(start, start + 500)
            ]
            vectors = random.normal(size=(500, 1, embedder.dimension)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
            await driver.import_records(records, [*map(Derived, vectors)])
        yield driver


def url_of(driver: PgvectorDriver) -> str:
    url = driver.connections._settings.url
    assert url is not None
    return url.get_secret_value()


async def test_a_copy_that_is_killed_again_and_again_ends_equal(
    filled: PgvectorDriver,
    new_database: NewDatabase,
    embedder: Embedder,
    root: Path,
    tmp_path: Path,
) -> None:
    there, here = await new_database(), url_of(filled)
    settings = {
        "MEMORY_DRIVERS__HERE__TYPE": "pgvector",
        "MEMORY_DRIVERS__HERE__URL": here,
        "MEMORY_DRIVERS__THERE__TYPE": "pgvector",
        "MEMORY_DRIVERS__THERE__URL": there,
    }
    state = str(tmp_path / "state")
    command = Killed(root, settings, "copy", "here", "there", "--state", state, "--json")
    await _killed_on_the_way(command, there)
    ended = await command.end()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    target = DatabaseSettings(url=SecretStr(there))
    async with PgvectorDriver(target, embedder, Limits()) as driver:
        assert (await verify(filled, driver)).none
    assert os.listdir(tmp_path) == []


async def test_an_export_and_an_import_that_are_killed_end_equal(
    filled: PgvectorDriver,
    new_database: NewDatabase,
    embedder: Embedder,
    root: Path,
    tmp_path: Path,
) -> None:
    there, here = await new_database(), url_of(filled)
    file = tmp_path / "all.jsonl"
    own = {"MEMORY_DRIVER": "pgvector"}
    export = Killed(root, {**own, "DATABASE_URL": here}, "export", str(file), "--vectors")
    random = Random(17)
    for _ in range(KILLS):
        size = random.randrange((RECORDS - 3 * MOST) * 2_400)

        async def written(size: int = size) -> bool:
            sizes = {each.name: each.stat().st_size for each in os.scandir(tmp_path)}
            return sizes.get(f"{file.name}.part", -1) >= size

        await export.kill(written)
        assert os.listdir(tmp_path) == [f"{file.name}.part"]
    ended = await export.end()
    assert ended.returncode == 0, ended.stderr
    assert os.listdir(tmp_path) == [file.name]
    into = Killed(root, {**own, "DATABASE_URL": there}, "import", str(file))
    await _killed_on_the_way(into, there)
    ended = await into.end()
    assert ended.returncode == 0, ended.stderr
    target = DatabaseSettings(url=SecretStr(there))
    async with PgvectorDriver(target, embedder, Limits()) as driver:
        assert (await verify(filled, driver)).none


async def _killed_on_the_way(command: Killed, database: str) -> None:
    """Kill the command when it has brought a part of the records, then a larger part ..."""
    connection = await asyncpg.connect(database)
    random = Random(17)
    parts = sorted(random.randrange(RECORDS - 3 * MOST) for _ in range(KILLS))

    async def there() -> int:
        return int(await connection.fetchval("select count(*) from memories"))

    for part in parts:

        async def reached(part: int = part) -> bool:
            return await there() > part

        await command.kill(reached)
        assert part < await there() < RECORDS
    await connection.close()
