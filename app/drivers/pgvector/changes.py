"""Forgets old changes: `memory_changes` tells every service which memories to read again."""

from app.drivers.pgvector.background import Background
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import recall as sql

KEPT_SECONDS = 3_600.0
"""Who was not recalled for so long is read anew."""


class OldChanges(Background):
    """Forgets them every ten minutes, whoever else does: no two get in each other's way."""

    failed = "changes_not_forgotten"
    every = 600.0

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def forget(self, kept: float = KEPT_SECONDS) -> int:
        """Forget changes of before a mark that is `kept` seconds old; how many rows went."""
        return await self._connections.change(sql.FORGET_CHANGES, kept)

    async def work(self) -> None:
        if not self._connections.read_only:
            await self.forget()
