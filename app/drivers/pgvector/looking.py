"""Looks for records where nobody asks for the health, so that their absence is told later."""

import asyncio

from app.drivers.pgvector.background import Background
from app.drivers.pgvector.connections import Connections

PAUSE_SECONDS = 30.0


class LookForRecords(Background):
    """Looks twice a minute until there are some, as each health check does."""

    failed = "records_not_looked_for"
    every = 0.0

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def work(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)
        if not self._connections.has_records:
            await self._connections.check()
