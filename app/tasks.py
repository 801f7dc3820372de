"""Ends tasks that would run for ever, and lets go on what gets somewhere; work at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

First = TypeVar("First")
Second = TypeVar("Second")

_AGAIN_SECONDS = 2.0


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel the tasks and wait until they are over, whatever they raise.

    What a task awaits may lose a cancellation, as libraries do where a connection is lost at the
    same time: so one that goes on is cancelled again, every two seconds.
    """
    running = {task for task in tasks if task is not None}
    while running:
        for task in running:
            task.cancel()
        over, running = await asyncio.wait(running, timeout=_AGAIN_SECONDS)
        for task in over:
            if not task.cancelled():
                task.exception()  # else asyncio reports one that nobody asked for


def postponing(limit: asyncio.Timeout, seconds: float) -> Callable[[], None]:
    """What lets the time-out begin anew, with so many seconds, each time that it is called."""
    loop = asyncio.get_running_loop()

    def postpone() -> None:
        if not limit.expired():
            limit.reschedule(loop.time() + seconds)

    return postpone


async def both(
    first: Coroutine[Any, Any, First], second: Coroutine[Any, Any, Second]
) -> tuple[First, Second]:
    """Both results; the first failure ends the other."""
    other = asyncio.ensure_future(second)
    try:
        return await first, await other
    finally:
        if not other.done():
            other.cancel()
            await asyncio.wait({other})
        elif not other.cancelled():
            other.exception()
