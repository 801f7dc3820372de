"""The way to AutoMem: a bound, a deadline for every call, and repeats where they are safe."""

import asyncio
from collections.abc import Iterable, Mapping
from time import monotonic
from typing import Any, TypeAlias

import httpx

from app.drivers.automem.errors import Answered, backend_errors, may_pass
from app.errors import DriverError, DriverUnavailable, PoolExhausted
from app.reachability import Reachability
from app.retries import attempts
from app.settings import AutomemSettings
from app.slots import Slots

Query: TypeAlias = Iterable[tuple[str, str | int]]

CONNECT_SECONDS = 5.0
"""How long to wait for AutoMem to accept a connection: one that is there does so at once."""
SLOT_SECONDS = 5.0
"""How long a call waits for a free connection, then 503: more would only make it late."""
REPEATS = 2
"""How often a call is repeated that failed and may pass, where that is safe."""

_PROBES = frozenset({"/health", "/enrichment/status"})
"""Asked for AutoMem's state alone. They have a connection of their own, however many wait."""
_BLIND = frozenset({"/recall", *_PROBES})
"""They answer 200 while AutoMem's database is down: that is no sign of it being back."""


class AutomemClient:
    """AutoMem's routes as calls that give JSON objects.

    Every call ends within `AUTOMEM_TIMEOUT` seconds for each try, and no new try starts later than
    that. Failures are `MemoryServiceError`s.
    """

    def __init__(self, settings: AutomemSettings) -> None:
        self._settings = settings
        self._slots = Slots(settings.pool_size, SLOT_SECONDS)
        self._probe_slots = Slots(1, SLOT_SECONDS)
        self._http: httpx.AsyncClient | None = None
        self.reachability = Reachability("automem", settings.called("url"))
        """Only told: each call tries."""

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def get(self, path: str, query: Query = ()) -> dict[str, Any]:
        """The answer; repeated when the failure may pass."""
        async for attempt in self.attempts():
            with attempt:
                return await self.once("GET", path, query)
        raise AssertionError("stamina ends with an answer or an error")

    async def get_if_there(self, path: str) -> dict[str, Any] | None:
        """The answer, or None for a 404."""
        try:
            return await self.get(path)
        except DriverError as error:
            if is_missing(error):
                return None
            raise

    async def delete(self, path: str) -> bool:
        """Whether this call deleted: a repeat that finds nothing follows a try that did."""
        async for attempt in self.attempts():
            with attempt:
                try:
                    await self.once("DELETE", path)
                except DriverError as error:
                    if not is_missing(error):
                        raise
                    tries: int = attempt.num
                    return tries > 1
                return True
        raise AssertionError("stamina ends with an answer or an error")

    def attempts(self) -> Any:
        """Tries while the failure may pass: `async for`, then `with`."""
        return attempts(may_pass, REPEATS, self._settings.timeout)

    async def once(
        self,
        method: str,
        path: str,
        query: Query = (),
        body: Mapping[str, Any] | None = None,
        seconds: float | None = None,
    ) -> dict[str, Any]:
        """One try, within `seconds` or `AUTOMEM_TIMEOUT`."""
        slots = self._probe_slots if path in _PROBES else self._slots
        started = monotonic()
        try:
            with backend_errors(self._settings.called("api_token"), self._settings.called("url")):
                async with asyncio.timeout(seconds or self._settings.timeout), slots.one():
                    response = await self._opened().request(
                        method, path, params=list(query) or None, json=body
                    )
                if not response.is_success:
                    raise Answered(response.status_code)
        except PoolExhausted:
            raise
        except DriverUnavailable as error:
            self.reachability.failed(error.reason, started)
            raise
        if path not in _BLIND:
            self.reachability.answered(started)
        try:
            answer = response.json()
        except ValueError as error:
            raise DriverError(reason="AutoMem's answer is not JSON") from error
        if not isinstance(answer, dict):
            raise DriverError(reason="AutoMem's answer is not a JSON object")
        return answer

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            settings = self._settings
            token = settings.api_token
            self._http = httpx.AsyncClient(
                base_url=settings.url,
                headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else None,
                timeout=httpx.Timeout(settings.timeout, connect=CONNECT_SECONDS),
                limits=httpx.Limits(  # `Slots` bounds them
                    max_connections=None, max_keepalive_connections=settings.pool_size
                ),
            )
        return self._http


def is_missing(error: Exception) -> bool:
    """Whether AutoMem answered 404."""
    return isinstance(error.__cause__, Answered) and error.__cause__.status == 404
