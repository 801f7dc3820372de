"""The way to Weaviate: its REST API, and its gRPC API as JSON (Connect), over one HTTP port.

This is all that knows how Weaviate is spoken to: another way takes the place of this class.
"""

import asyncio
import json
from collections.abc import Mapping
from time import monotonic
from typing import Any

import httpx

from app.drivers.weaviate.errors import Answered, backend_errors
from app.errors import ConnectionLost, DriverUnavailable, MemoryServiceError, PoolExhausted
from app.reachability import Reachability
from app.settings import WeaviateSettings
from app.slots import Slots

CONNECT_SECONDS = 5.0
"""How long to wait for Weaviate to accept a connection: one that is there does so at once."""

_CONNECT = "/v1/grpc-web/weaviate.v1.Weaviate"


class WeaviateClient:
    """Weaviate's calls, each within `WEAVIATE_TIMEOUT` seconds and as long for a connection.

    Failures are `MemoryServiceError`s. No call is repeated.
    """

    def __init__(self, settings: WeaviateSettings) -> None:
        self._settings = settings
        self._slots = Slots(settings.pool_size, settings.timeout)
        self._probe_slots = Slots(1, settings.timeout)
        self._http: httpx.AsyncClient | None = None
        self.reachability = Reachability("weaviate", settings.called("url"))
        """Only told: each call tries."""

    async def close(self) -> None:
        """Disconnect; the next call connects again."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()

    async def call(self, method: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What the gRPC method answers."""
        milliseconds = max(1, round(1_000 * self._settings.timeout))
        headers = {"Connect-Protocol-Version": "1", "Connect-Timeout-Ms": str(milliseconds)}
        answer = await self._exchange("POST", f"{_CONNECT}/{method}", body, headers=headers)
        return _object(answer)

    async def get(self, path: str, *, probe: bool = False) -> Any:
        """What the path of the REST API answers; None where nothing is there.

        A `probe` has a connection of its own, however many calls wait.
        """
        try:
            return await self._exchange("GET", path, probe=probe)
        except MemoryServiceError as error:
            if isinstance(error.__cause__, Answered) and error.__cause__.status == 404:
                return None
            raise

    async def post(self, path: str, body: Mapping[str, Any]) -> bool:
        """Whether the REST API takes the body; False for a 422."""
        try:
            await self._exchange("POST", path, body)
        except MemoryServiceError as error:
            if isinstance(error.__cause__, Answered) and error.__cause__.status == 422:
                return False
            raise
        return True

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        probe: bool = False,
    ) -> Any:
        settings = self._settings
        slots = self._probe_slots if probe else self._slots
        started = monotonic()
        try:
            with backend_errors(settings.called("api_key"), settings.called("url")):
                async with slots.one(), asyncio.timeout(settings.timeout):
                    response = await self._opened().request(
                        method, path, json=body, headers=headers
                    )
                if not response.is_success:
                    raise Answered(response.status_code, _said(response))
        except PoolExhausted:
            raise
        except DriverUnavailable as error:
            self.reachability.failed(error.reason, started)
            raise
        self.reachability.answered(started)
        try:
            return json.loads(response.content)
        except ValueError as error:
            # So it answers where it failed amid the work, and so a proxy does that is not one.
            raise ConnectionLost(reason="Weaviate's answer is not JSON") from error

    def _opened(self) -> httpx.AsyncClient:
        if self._http is None:
            settings = self._settings
            key = settings.api_key
            self._http = httpx.AsyncClient(
                base_url=settings.url,
                headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else None,
                timeout=httpx.Timeout(settings.timeout, connect=CONNECT_SECONDS),
                limits=httpx.Limits(  # `Slots` bounds them
                    max_connections=None, max_keepalive_connections=settings.pool_size
                ),
            )
        return self._http


def _object(answer: Any) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise ConnectionLost(reason="Weaviate's answer is not a JSON object")
    return answer


def _said(response: httpx.Response) -> str:
    """The message of an answer, in either of the shapes that Weaviate has for it."""
    try:
        answer = json.loads(response.content)
    except ValueError:
        return response.text[:1_000]
    if not isinstance(answer, dict):
        return str(answer)[:1_000]
    errors = answer.get("error")
    if isinstance(errors, list):
        return " ".join(str(each.get("message")) for each in errors if isinstance(each, dict))
    return str(answer.get("message", answer))
