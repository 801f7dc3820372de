"""A wrapping driver is closed, whatever the drivers that it holds are doing."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from app import tasks
from app.errors import DriverUnavailable
from app.settings import JournalSettings
from tests.wrappers.scripted import Shape


async def test_close_ends_though_a_driver_loses_the_cancellation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.05)
    asked = asyncio.Event()

    async def lose(_: object) -> None:
        asked.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise DriverUnavailable from None

    shape = Shape(kind="failover", writes="journal")
    leaves = shape.leaves(Random(23))
    async with shape.over(leaves, JournalSettings(path=tmp_path)) as driver:
        leaves[0].away = True
        await driver.store("ada", "A jar.")
        monkeypatch.setattr(leaves[0], "_keep", lose)
        await asked.wait()
        async with asyncio.timeout(20):
            await driver.close()
