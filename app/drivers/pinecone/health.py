"""The index's state: one small call, which is answered by what answers all others."""

import asyncio
from time import perf_counter
from typing import Any

from app.core.memory.base import DriverHealth, HealthStatus
from app.drivers.pinecone import bodies
from app.drivers.pinecone.index import Index
from app.drivers.pinecone.reading import Reading
from app.errors import ConfigurationError, MemoryServiceError
from app.single_flight import SingleFlight

_SECONDS = 2.0
_FULL = 0.8
"""From this share of its room on, the overlay's is told: writes are going to wait."""


class Health:
    """Asks for one name of a namespace; calls that come at the same time share one look."""

    def __init__(self, index: Index, reading: Reading) -> None:
        self._index = index
        self._reading = reading
        self._looks: SingleFlight[DriverHealth] = SingleFlight()

    async def state(self, driver: str) -> DriverHealth:
        """ok; degraded where writes come faster than Pinecone shows them; unavailable."""
        return await self._looks.join(driver, lambda: self._look(driver))

    async def _look(self, driver: str) -> DriverHealth:
        started = perf_counter()
        try:
            async with asyncio.timeout(_SECONDS):
                query = bodies.namespaces(self._index.names.root, None, 1)
                await self._index.client.get("/namespaces", query, probe=True)
        except (TimeoutError, MemoryServiceError) as error:
            return DriverHealth(driver=driver, status="unavailable", detail=_detail(error))
        overlay = self._reading.overlay
        facts: dict[str, Any] = {
            "latency_ms": round((perf_counter() - started) * 1000, 1),
            "overlay_mb": round(overlay.size / 1e6, 1),
        }
        status: HealthStatus = "ok"
        detail = None
        if overlay.fullness > _FULL:
            status, detail = "degraded", "writes come faster than Pinecone shows them"
        return DriverHealth(driver=driver, status=status, detail=detail, facts=facts)


def _detail(error: Exception) -> str:
    if isinstance(error, ConfigurationError):
        return "Pinecone refuses the key or the host"
    if isinstance(error, MemoryServiceError):
        return error.detail
    return f"no answer within {_SECONDS:.0f} s"
