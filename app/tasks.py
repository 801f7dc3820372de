"""Ends tasks that would run for ever."""

import asyncio
from typing import Any

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
