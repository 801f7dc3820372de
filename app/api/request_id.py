"""Every request has an id, in the answer's X-Request-ID and in its log lines."""

import re
from contextvars import ContextVar
from time import perf_counter

import structlog
import uuid_utils
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import get_logger

request_id: ContextVar[str] = ContextVar("request_id", default="")

_HEADER = "X-Request-ID"
_ACCEPTED = re.compile(r"[A-Za-z0-9._-]{1,64}")

_log = get_logger(__name__)


class RequestIdMiddleware:
    """Takes the caller's X-Request-ID if it is plain, else makes one; logs how the request ended.

    The log line has the route's template, never the path: a path can hold a user's id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(_HEADER, "")
        current = given if _ACCEPTED.fullmatch(given) else str(uuid_utils.uuid7())
        request_id.set(current)
        structlog.contextvars.bind_contextvars(request_id=current)
        started = perf_counter()
        status = 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[_HEADER] = current
            await send(message)

        try:
            await self._app(scope, receive, answer)
        finally:
            route = getattr(scope.get("route"), "path_format", None)
            _log.debug(
                "request",
                method=scope["method"],
                route=route,
                status=status,
                milliseconds=round((perf_counter() - started) * 1000, 1),
            )
            structlog.contextvars.unbind_contextvars("request_id", "api_key")
