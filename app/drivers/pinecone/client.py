"""The way to one index: a bound, one deadline for a call with its repeats, and the answers' LSN."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeAlias

import httpx

from app.drivers.pinecone.errors import Answered, backend_errors, pause
from app.errors import (
    ConfigurationError,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    PoolExhausted,
)
from app.reachability import Reachability
from app.retries import attempts
from app.settings import PineconeSettings
from app.slots import Slots

Query: TypeAlias = Sequence[tuple[str, str]]

API_VERSION = "2026-04"
"""What the requests are written for. Without one Pinecone takes the oldest that it still knows."""
CONNECT_SECONDS = 5.0
"""How long to wait for Pinecone to accept a connection."""
REPEATS = 3
"""How often a call is repeated that failed and may pass. All calls may be: who writes chooses the
ids, and to write or delete the same again changes nothing."""

_WRITTEN = "x-pinecone-request-lsn"
_INDEXED = "x-pinecone-max-indexed-lsn"


@dataclass(frozen=True, slots=True)
class Answer:
    """A JSON object, and how far the namespace's log goes that it shows, or was written to.

    `lsn` is None where Pinecone does not say.
    """

    body: dict[str, Any]
    lsn: int | None = None


class PineconeClient:
    """The index's routes as calls that give JSON objects; failures are `MemoryServiceError`s."""

    def __init__(self, settings: PineconeSettings) -> None:
        if settings.api_key is None or settings.host is None:
            name = settings.called("host" if settings.api_key is not None else "api_key")
            raise ConfigurationError(f"{name}: must be set for the driver pinecone")
        self._url = settings.host
        self._headers = {
            "Api-Key": settings.api_key.get_secret_value(),
            "X-Pinecone-Api-Version": API_VERSION,
            "Accept": "application/json",
        }
        self._settings = settings
        self._slots = Slots(settings.pool_size, settings.timeout)
        self._probe_slots = Slots(1, settings.timeout)
        self._http: httpx.AsyncClient | None = None
        self.reachability = Reachability("pinecone", settings.called("host"))
        """Only told: each call tries."""

    async def close(self) -> None:
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def get(self, path: str, query: Query = (), *, probe: bool = False) -> Answer:
        """The answer to a GET; a `probe` has a connection of its own, however many calls wait."""
        return await self._call("GET", path, query, None, probe=probe)

    async def post(self, path: str, body: object) -> Answer:
        """The answer to a POST of what `bodies` builds."""
        text = json.dumps(body, separators=(",", ":"), allow_nan=False)
        return await self._call("POST", path, (), text.encode())

    async def _call(
        self, method: str, path: str, query: Query, body: bytes | None, *, probe: bool = False
    ) -> Answer:
        """Tries until one is answered, or may not be repeated, or the time is over."""
        end = monotonic() + self._settings.timeout
        async for attempt in attempts(pause, REPEATS, self._settings.timeout):
            with attempt:
                left = end - monotonic()
                if left <= 0:
                    raise DriverTimeout(reason=f"{self._settings.called('timeout')}: it is over")
                return await self._once(method, path, query, body, left, probe=probe)
        raise AssertionError("stamina ends with an answer or an error")

    async def _once(
        self,
        method: str,
        path: str,
        query: Query,
        body: bytes | None,
        seconds: float,
        *,
        probe: bool,
    ) -> Answer:
        slots = self._probe_slots if probe else self._slots
        headers = None if body is None else {"Content-Type": "application/json"}
        started = monotonic()
        try:
            with backend_errors(self._settings):
                async with slots.one(seconds):
                    async with asyncio.timeout(max(0.001, seconds - (monotonic() - started))):
                        response = await self._opened().request(
                            method, path, params=list(query) or None, content=body, headers=headers
                        )
                if not response.is_success:
                    raise Answered(response)
        except PoolExhausted:
            raise
        except DriverUnavailable as error:
            self.reachability.failed(error.reason, started)
            raise
        self.reachability.answered(started)
        return _read(response)

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            settings = self._settings
            self._http = httpx.AsyncClient(
                base_url=self._url,
                headers=self._headers,
                timeout=httpx.Timeout(settings.timeout, connect=CONNECT_SECONDS),
                limits=httpx.Limits(  # `Slots` bounds them
                    max_connections=None, max_keepalive_connections=settings.pool_size
                ),
            )
        return self._http


def _read(response: httpx.Response) -> Answer:
    request = response.headers.get("x-pinecone-request-id", "")[:64]
    try:
        body = response.json()
    except ValueError as error:
        raise DriverError(reason=f"Pinecone's answer is not JSON (request {request})") from error
    if not isinstance(body, dict):
        raise DriverError(reason=f"Pinecone's answer is not a JSON object (request {request})")
    said = response.headers.get(_WRITTEN) or response.headers.get(_INDEXED) or ""
    return Answer(body, int(said) if said.isascii() and said.isdigit() else None)
