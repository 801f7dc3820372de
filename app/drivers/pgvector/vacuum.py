"""Vacuums the memories soon after they were stored.

PostgreSQL answers from an index alone only for pages that were vacuumed since they were written.
Its autovacuum comes once a minute at most: until then a recall reads those pages, too.
"""

import asyncio

from app.drivers.pgvector.background import Background
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import memories as sql

ROWS = 2_000
"""So many new rows are vacuumed at once, however many come behind them."""
FEW_ROWS = 100
"""So many are vacuumed when no more come for a while."""
QUIET_SECONDS = 2.0
AFTER_FAILURE_SECONDS = 60.0


class Vacuum(Background):
    """Counts what this process writes, and vacuums in the background.

    One vacuum takes 20 ms of a core's time, however large the table is, unless much was deleted.
    """

    failed = "vacuum_failed"
    every = 0.0

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._rows = 0
        self._written = asyncio.Event()

    def wrote(self, rows: int) -> None:
        """So many rows were inserted or updated."""
        self._rows += rows
        self._written.set()

    @property
    def after_failure(self) -> float:
        return AFTER_FAILURE_SECONDS

    async def work(self) -> None:
        await self._due()
        rows = self._rows
        await self._vacuum()
        self._rows -= rows

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
