"""AutoMem's state, which it does not tell in one place."""

import asyncio
from time import monotonic, perf_counter
from typing import Any

from app.core.memory.base import DriverHealth, HealthStatus
from app.drivers.automem.client import AutomemClient, is_missing
from app.drivers.automem.scope import dict_of
from app.errors import ConfigurationError, DriverError, DriverUnavailable, MemoryServiceError
from app.single_flight import SingleFlight

_SECONDS = 2.0
_SYNC = frozenset({"synced", "drift_detected", "orphaned_vectors", "unknown"})


class Health:
    """Asks `/health`, which needs no token, and a route that does."""

    def __init__(self, client: AutomemClient) -> None:
        self._client = client
        self._checks: SingleFlight[DriverHealth] = SingleFlight()

    async def check(self) -> dict[str, Any]:
        """What `/health` says; raises when AutoMem can't serve."""
        started = monotonic()
        said = await self._client.get("/health")
        await self._check_token()
        # With its database gone AutoMem still says that it is connected: only the count tells.
        if said.get("falkordb") != "connected" or not _is_count(said.get("memory_count")):
            error = DriverUnavailable(reason="AutoMem is up, its database is not")
            self._client.reachability.failed(error.reason, started)
            raise error
        self._client.reachability.answered(started)
        return said

    async def _check_token(self) -> None:
        try:
            await self._client.get("/enrichment/status")
        except DriverError as error:
            # It is there in AutoMem 0.16; a 404 has passed the token's check.
            if not is_missing(error):
                raise

    async def state(self, driver: str) -> DriverHealth:
        """ok; degraded without vector search; unavailable. Within two seconds; never raises.

        Probes that come at the same time share one look.
        """
        return await self._checks.join(driver, lambda: self._look(driver))

    async def _look(self, driver: str) -> DriverHealth:
        started = perf_counter()
        try:
            async with asyncio.timeout(_SECONDS):
                said = await self.check()
        except (TimeoutError, MemoryServiceError) as error:
            return DriverHealth(driver=driver, status="unavailable", detail=_detail(error))
        status: HealthStatus = "ok"
        detail = None
        # AutoMem says "connected" of a vector store that was there at its start: the count tells.
        if said.get("qdrant") != "connected" or not _is_count(said.get("vector_count")):
            status, detail = "degraded", "AutoMem finds by words only: its vector store is away"
        elif dict_of(said.get("vector_dimensions")).get("mismatch") is True:
            status, detail = "degraded", "AutoMem's vectors are not of its configured dimension"
        facts: dict[str, Any] = {
            "latency_ms": round((perf_counter() - started) * 1000, 1),
            "memory_count": said["memory_count"],
        }
        if _is_count(said.get("vector_count")):
            facts["vector_count"] = said["vector_count"]
        if said.get("sync_status") in _SYNC:
            facts["sync_status"] = said["sync_status"]
        return DriverHealth(driver=driver, status=status, detail=detail, facts=facts)


def _detail(error: Exception) -> str:
    if isinstance(error, ConfigurationError):
        return "AutoMem refuses the token"
    if isinstance(error, MemoryServiceError):
        return error.detail
    return f"no answer within {_SECONDS:.0f} s"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
