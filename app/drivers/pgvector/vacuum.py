"""Vacuums the memories soon after they were stored.

PostgreSQL answers from an index alone only for pages that were vacuumed since they were written.
Its autovacuum comes once a minute at most: until then a recall reads those pages, too.
"""

import asyncio

from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import memories as sql
from app.errors import MemoryServiceError
from app.logs import get_logger
from app.tasks import end

ROWS = 2_000
"""So many new rows are vacuumed at once, however many come behind them."""
FEW_ROWS = 100
"""So many are vacuumed when no more come for a while."""
QUIET_SECONDS = 2.0
AFTER_FAILURE_SECONDS = 60.0

_log = get_logger(__name__)


class Vacuum:
    """Counts what this process writes, and vacuums in the background.

    One vacuum takes 20 ms of a core's time, however large the table is, unless much was deleted.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rows = 0
        self._written = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Twice is harmless."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, also amid a vacuum."""
        task, self._task = self._task, None
        await end(task)

    def wrote(self, rows: int) -> None:
        """So many rows were inserted or updated."""
        self._rows += rows
        self._written.set()

    async def _run(self) -> None:
        failing = False
        while True:
            await self._due()
            rows = self._rows
            try:
                await self._vacuum()
                self._rows -= rows
                failing = False
            except MemoryServiceError as error:
                if not failing:  # told once, not at every try of an outage
                    _log.warning("vacuum_failed", reason=error.reason)
                failing = True
                await asyncio.sleep(AFTER_FAILURE_SECONDS)

    async def _due(self) -> None:
        """Wait until there is something to vacuum."""
        while self._rows < ROWS:
            self._written.clear()
            quiet = QUIET_SECONDS if self._rows >= FEW_ROWS else None
            try:
                async with asyncio.timeout(quiet):
                    await self._written.wait()
            except TimeoutError:
                return

    async def _vacuum(self) -> None:
        async with self._connections.acquire() as connection:
            if await connection.fetchval(sql.MAY_VACUUM):
                await connection.execute(sql.VACUUM)
