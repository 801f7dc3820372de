"""Tasks that run for ever end when they are told to, also those that do not listen at once."""

import asyncio
from typing import Any

import pytest

from app import tasks


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_AGAIN_SECONDS", 0.05)


async def test_a_task_that_loses_a_cancellation_ends_all_the_same() -> None:
    lost = 0

    async def run() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await tasks.end(task)
    assert task.cancelled()
    assert lost == 3


async def test_what_a_task_raises_as_it_ends_is_nobody_s_concern() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    async def run() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise ValueError

    task = asyncio.create_task(run())
    await asyncio.sleep(0)
    await tasks.end(None, task)
    assert task.done()
    await tasks.end(task)
    del task
    asyncio.get_running_loop().set_exception_handler(None)
    assert not reported
