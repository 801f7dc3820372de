"""Looking after the vector index while the driver is open."""

from typing import Any

from app.drivers.pgvector import indexes
from app.drivers.pgvector.background import Background
from app.drivers.pgvector.connections import Connections
from app.logs import get_logger
from app.settings import DatabaseSettings

_log = get_logger(__name__)


class IndexUpkeep(Background):
    """Looks at the index once a minute, for `/health`, and rebuilds a stale one where it may.

    However many processes look, one at a time rebuilds; the others go on.
    """

    failed = "index_upkeep_failed"
    every = 60.0

    def __init__(self, settings: DatabaseSettings, connections: Connections) -> None:
        self._settings = settings
        self._connections = connections
        self._state: indexes.IndexState | None = None

    @property
    def stale(self) -> str | None:
        """Why the index should be rebuilt, if it should, as of the last look."""
        return self._state.stale if self._state else None

    def facts(self) -> dict[str, Any]:
        """The index as of the last look, for `/health`."""
        return {"indexes": {indexes.INDEX: self._state.facts()}} if self._state else {}

    async def work(self) -> None:
        """See how the index is and, where it is stale and that is allowed, rebuild it."""
        await self._inspect()
        if self.stale and self._settings.rebuilds_index:
            await indexes.rebuild(self._connections.dsn, self._settings.index)
            await self._inspect()

    async def _inspect(self) -> None:
        before = self.stale
        async with self._connections.acquire() as connection:
            self._state = await indexes.inspect(
                connection, self._settings.index, setting=self._settings.called("index")
            )
        if self.stale and not before:
            _log.warning("index_stale", reason=self.stale, rows=self._state.rows)
