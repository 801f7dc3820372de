"""Records a batch at a time, so that memory holds a few and a backend is asked seldom."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from typing import Any, Final, TypeVar

from app.core.memory.records import Record
from app.tasks import end

Made = TypeVar("Made")
Value = TypeVar("Value")

MOST: Final = 500
"""Records of a batch."""
MOST_CHARS: Final = 1_000_000
"""Of the contents of a batch; one content may have more."""


async def batches(records: AsyncIterator[Record]) -> AsyncIterator[list[Record]]:
    """The records in their order, some at a time."""
    batch: list[Record] = []
    size = 0
    async for record in records:
        batch.append(record)
        size += len(record.content)
        if len(batch) == MOST or size >= MOST_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def ahead(values: AsyncIterator[Value]) -> AsyncGenerator[Value, None]:
    """The values; the next one is made while the caller works on one."""
    coming = asyncio.ensure_future(_next(values))
    try:
        while found := await coming:
            coming = asyncio.ensure_future(_next(values))
            yield found[0]
    finally:
        await end(coming)


async def made_of(
    values: AsyncIterator[Value], make: Callable[[Value], Coroutine[Any, Any, Made]], most: int
) -> AsyncGenerator[Made, None]:
    """What is made of each value, in their order; up to `most` of them are begun and not over."""
    running: deque[asyncio.Task[Made]] = deque()
    try:
        async for value in values:
            running.append(asyncio.create_task(make(value)))
            if len(running) == most:
                yield await running[0]
                running.popleft()
        while running:
            yield await running[0]
            running.popleft()
    finally:
        await end(*running)


async def _next(values: AsyncIterator[Value]) -> tuple[Value, ...]:
    """The next value, or nothing."""
    async for value in values:
        return (value,)
    return ()
