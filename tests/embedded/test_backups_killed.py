"""A backup or a restore that is killed at any moment spoils nothing, and its repeat works."""

import asyncio
from pathlib import Path
from random import Random
from time import monotonic

import pytest

from app.drivers.pgvector.backups.files import sha256
from app.drivers.pgvector.backups.manifest import found
from app.embedding import Embedder
from app.errors import ConfigurationError
from app.settings import CLUSTER, RESTORING
from tests.commands.running import started
from tests.embedded.backups import (
    backed_up,
    contents,
    driver_on,
    fill,
    records,
    restored,
    settings_of,
)
from tests.guides import ROOT
from tests.storm import times

KILLS = times(3, 10)


async def killed(data: Path, seconds: float, *words: str) -> None:
    """Run `memory-driver` with these words, for so long at most."""
    process = started(ROOT, settings_of(data), *words)
    await asyncio.sleep(seconds)
    process.kill()
    await asyncio.to_thread(process.wait, 60)


async def test_a_backup_that_is_killed_amid_writes(embedder: Embedder, tmp_path: Path) -> None:
    random = Random(16)
    folder = tmp_path / "backups"
    over = asyncio.Event()
    acknowledged: list[str] = []
    async with driver_on(tmp_path / "data", embedder) as driver:

        async def write() -> None:
            while not over.is_set():
                text = str(len(acknowledged))
                await driver.store("ada", text)
                acknowledged.append(text)

        await fill(driver)
        writing = asyncio.create_task(write())
        began = monotonic()
        await backed_up(tmp_path / "data", folder)
        usual = monotonic() - began
        for _ in range(KILLS):
            await killed(tmp_path / "data", random.uniform(0, usual), "backup", str(folder))
        before = set(acknowledged)
        newest = await backed_up(tmp_path / "data", folder)
        over.set()
        await writing
        assert await contents(driver, "ada") >= set(acknowledged)
        assert (await driver.health_check()).status == "ok"
    backups = [path for path in folder.iterdir() if path.name != "lock"]
    for backup in backups:  # each is whole, and nothing else is left
        assert found(backup)[1].sha256 == sha256(backup / "database.dump")
    assert max(backups) == newest
    await restored(folder, tmp_path / "new")
    async with driver_on(tmp_path / "new", embedder) as driver:
        assert await contents(driver, "ada") >= before


async def test_a_backup_without_a_service_that_is_killed(
    embedder: Embedder, tmp_path: Path
) -> None:
    random = Random(17)
    async with driver_on(tmp_path / "data", embedder) as driver:
        await fill(driver)
        there = await records(driver)
    for _ in range(KILLS):
        await killed(tmp_path / "data", random.uniform(0, 1), "backup", str(tmp_path / "backups"))
    await backed_up(tmp_path / "data", tmp_path / "backups")
    async with driver_on(tmp_path / "data", embedder) as driver:
        assert await records(driver) == there


async def test_a_restore_that_is_killed(embedder: Embedder, tmp_path: Path) -> None:
    random = Random(18)
    async with driver_on(tmp_path / "data", embedder) as driver:
        await fill(driver)
        there = await records(driver)
        backup = await backed_up(tmp_path / "data", tmp_path / "backups")
    began = monotonic()
    await restored(backup, tmp_path / "whole")
    usual = monotonic() - began
    for n in range(KILLS):
        data = tmp_path / f"restored {n}"
        data.mkdir()
        await killed(data, random.uniform(0, usual), "restore", str(backup))
        if not (data / CLUSTER).exists():
            if (data / RESTORING).exists():
                await is_refused(data, embedder)
            await restored(backup, data)
        async with driver_on(data, embedder) as driver:
            assert await records(driver) == there


async def is_refused(data: Path, embedder: Embedder) -> None:
    """Assert that no service starts there, on an empty database."""
    with pytest.raises(ConfigurationError, match="waits for a restore that was interrupted"):
        async with driver_on(data, embedder):
            pass
