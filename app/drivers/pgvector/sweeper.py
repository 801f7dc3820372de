"""Deletes records that have expired: from that moment on nobody finds them, and they take room."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from app.core.memory.records import OLDER_VERSIONS
from app.drivers.pgvector.background import Background
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import expired as sql

PAUSE_SECONDS = 30.0


class Sweeper(Background):
    """Deletes them twice a minute, whoever else does: no two wait for each other.

    A database that takes no writes is left alone.
    """

    failed = "expired_not_deleted"
    every = 0.0

    def __init__(
        self,
        connections: Connections,
        now: Callable[[], datetime],
        swept: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`now` is the driver's clock; `swept` is told how many records each statement deleted."""
        self._connections = connections
        self._now = now
        self._swept = swept

    async def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were."""
        now = self._now()
        total = 0
        for statement in sql.DELETE:
            count = sql.AT_ONCE
            while count == sql.AT_ONCE:
                count = await self._connections.change(statement, now, now - OLDER_VERSIONS)
                self._swept(count)
                total += count
        return total

    async def work(self) -> None:
        await asyncio.sleep(PAUSE_SECONDS)  # also at first: who starts has better things to do
        if not self._connections.read_only:
            await self.sweep()
