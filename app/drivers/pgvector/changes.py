"""Forgets old changes: `memory_changes` tells every service which memories to read again."""

import asyncio

from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import recall as sql
from app.errors import MemoryServiceError
from app.logs import get_logger
from app.tasks import end

EVERY_SECONDS = 600.0
KEPT_SECONDS = 3_600.0
"""Who was not recalled for so long is read anew."""

_log = get_logger(__name__)


class OldChanges:
    """Forgets them every ten minutes, whoever else does: no two get in each other's way."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Twice is harmless."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, also amid a statement."""
        task, self._task = self._task, None
        await end(task)

    async def forget(self, kept: float = KEPT_SECONDS) -> int:
        """Forget changes of before a mark that is `kept` seconds old; how many rows went."""
        return await self._connections.change(sql.FORGET_CHANGES, kept)

    async def _run(self) -> None:
        failing = False
        while True:
            if not self._connections.read_only:
                try:
                    await self.forget()
                    failing = False
                except MemoryServiceError as error:
                    if not failing:  # told once, not at every try of an outage
                        _log.warning("changes_not_forgotten", reason=error.reason)
                    failing = True
            await asyncio.sleep(EVERY_SECONDS)
