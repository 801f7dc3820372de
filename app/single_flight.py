"""Callers that want the same thing at the same time share one computation."""

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Computations that run, by key; an error reaches every caller, and nothing is kept.

    One is cancelled when the last of its callers is.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, tuple[asyncio.Task[Result], list[None]]] = {}

    def runs(self, key: Hashable) -> bool:
        """Whether a computation of `key` runs."""
        return key in self._running

    async def join(
        self, key: Hashable, compute: Callable[[], Coroutine[Any, Any, Result]]
    ) -> Result:
        """The result of the computation of `key`, which starts unless one runs already."""
        if key not in self._running:
            started = asyncio.create_task(compute())
            self._running[key] = (started, [])
            started.add_done_callback(lambda task: self._over(key, task))
        task, callers = self._running[key]
        callers.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            callers.pop()
            if not callers and not task.done():
                self._forget(key, task)
                task.cancel()

    def _over(self, key: Hashable, task: asyncio.Task[Result]) -> None:
        self._forget(key, task)
        if not task.cancelled():
            task.exception()  # otherwise asyncio reports one that nobody waited for

    def _forget(self, key: Hashable, task: asyncio.Task[Result]) -> None:
        if key in self._running and self._running[key][0] is task:
            del self._running[key]
