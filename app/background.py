"""Work that is done again and again while a driver is open."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

from app.errors import MemoryServiceError
from app.logs import get_logger
from app.tasks import end

_log = get_logger(__name__)


class Background(ABC):
    """One kind of work, in a task of its own. A failure does not end it, and is logged once."""

    failed: ClassVar[str]
    """The log's event for a failure."""

    every: ClassVar[float]
    """Seconds from the end of the work to its next beginning."""

    errors: ClassVar[Callable[[], AbstractContextManager[None]]] = nullcontext
    """What makes a `MemoryServiceError` of an error of the backend's client."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Twice is harmless."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, also amid the work."""
        task, self._task = self._task, None
        await end(task)

    @property
    def after_failure(self) -> float:
        """Seconds until it is tried again."""
        return self.every

    @abstractmethod
    async def work(self) -> None:
        """Do it once; it may wait until there is something to do."""

    async def _run(self) -> None:
        failing = False
        while True:
            pause = self.every
            try:
                with type(self).errors():
                    await self.work()
                failing = False
            except MemoryServiceError as error:
                if not failing:  # told once, not at every try of an outage
                    _log.warning(self.failed, reason=error.reason)
                failing = True
                pause = self.after_failure
            await asyncio.sleep(pause)
