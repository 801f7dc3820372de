"""An embedded server with records of every kind, and its backups, made as operators do."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from app.core.memory.checks import Metadata
from app.core.memory.records import Memory, Record, record_id
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.commands.running import run_command
from tests.guides import ROOT

HOSTILE = [
    "\\.",
    "\\N",
    "a\tb\\tc\r\nd\n\\.\ne",
    "'; drop table memories; --",
    '{"a": "b"}',
    "$$ $1 %s {} ~",
    "👩‍👩‍👧 ﷽ \u2028 \ufeff \u202e",
    " ",
    "\x01\x1f\x7f",
]
"""Texts that a dump, or who reads it, could take for something else."""


def driver_on(data: Path, embedder: Embedder) -> PgvectorDriver:
    """A driver on the embedded server of that folder."""
    return PgvectorDriver(DatabaseSettings(data_dir=data), embedder, Limits())


def settings_of(data: Path) -> dict[str, str]:
    """What tells a command the folder of the embedded server."""
    return {"MEMORY_DRIVER": "pgvector", "MEMORY_DATA_DIR": str(data)}


async def command(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `memory-driver` with these words."""
    return await run_command(ROOT, settings_of(data), *words)


async def backed_up(data: Path, folder: Path) -> Path:
    """The folder of a new backup, which must succeed."""
    done = await command(data, "backup", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["backup"])


async def restored(folder: Path, data: Path) -> None:
    """Restore into a folder, which must succeed."""
    done = await command(data, "restore", str(folder))
    assert done.returncode == 0, done.stderr


async def refused(data: Path, *words: str) -> str:
    """The one line in which a command is refused."""
    done = await command(data, *words)
    assert done.returncode == 1, done.stdout
    assert (done.stdout, done.stderr.count("\n")) == ("", 1), done.stderr
    assert done.stderr.startswith("memory-driver: ")
    return done.stderr.removeprefix("memory-driver: ").rstrip()


async def fill(driver: PgvectorDriver) -> None:
    """Store records of every kind, some of them updated or deleted again."""
    metadata: Metadata = {"n": 1.5, "nested": {"list": [None, True, "\\."]}}
    for text in HOSTILE:
        kept = await driver.store(f"user {text}", text, tags=[text.strip() or "x"])
        await driver.update(kept.memory_id, kept.user_id, {"metadata": metadata})
    await driver.store("ada", "The kettle is of copper. " * 200)  # has windows
    gone = await driver.store("ada", "A kettle that is gone.")
    await driver.delete(gone.memory_id, "ada")
    await driver.store_global_knowledge("Tea is a drink. " * 200, "drinks", title="\\.")
    await driver.store_global_knowledge("Basil wants water.", "plants", metadata=metadata)


async def records(driver: PgvectorDriver) -> list[Record]:
    """All of its records, by id."""
    return sorted([one async for one in driver.export_records()], key=record_id)


async def contents(driver: PgvectorDriver, user_id: str) -> set[str]:
    """What the user's memories say."""
    return {
        one.content
        async for one in driver.export_records()
        if isinstance(one, Memory) and one.user_id == user_id
    }


_WAITING = "select exists (select from pg_locks where not granted)"


@asynccontextmanager
async def blocked(dsn: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A lock on the memories, at which a backup waits until this is left.

    Gives what returns once somebody waits there.
    """
    connection = await asyncpg.connect(dsn)
    await connection.execute("begin; lock table memories in access exclusive mode")

    async def somebody_waits() -> None:
        async with asyncio.timeout(60):
            while not await connection.fetchval(_WAITING):
                await asyncio.sleep(0.01)

    yield somebody_waits
    connection.terminate()
