"""The way of every /v1 request before its route: authorise, then bound and parse the body."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.convertors import StringConvertor, register_url_convertor

from app.api.auth import authorise
from app.api.limits import current_limits
from app.errors import BodyTooLarge, InvalidInput, UnsupportedMediaType
from app.settings import Settings


class _AnyText(StringConvertor):
    """A path parameter that may hold slashes and line breaks: a user id is any text."""

    regex = r"[\s\S]*"


register_url_convertor("any", _AnyText())

_DRAINED = 8
"""How many times the limit is read and dropped, so that the client gets to read the answer."""


class _JsonRequest(Request):
    """A request whose JSON is already parsed."""

    parsed: Any

    async def json(self) -> Any:
        return self.parsed


class ApiRoute(APIRoute):
    """A route that refuses what must not reach the parser."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        has_body = self.body_field is not None

        async def checked(request: Request) -> Response:
            settings: Settings = request.app.state.manager.settings
            authorise(request, settings)
            _check_url(request)
            token = current_limits.set(settings.limits)
            try:
                if has_body:
                    request = await _parse(request, settings.limits.body_bytes)
                return await handle(request)
            finally:
                current_limits.reset(token)

        return checked


def _check_url(request: Request) -> None:
    """Refuse a URL that could be understood in two ways: not UTF-8, or a parameter given twice."""
    query = request.scope["query_string"]
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
        names = [name for name, _ in parse_qsl(query.decode(), True, errors="strict")]
    except (UnicodeDecodeError, ValueError):
        raise InvalidInput("the URL is not UTF-8", ("query",)) from None
    if len(names) != len(set(names)):
        raise InvalidInput("a query parameter is given twice", ("query",))


async def _parse(request: Request, limit: int) -> Request:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType
    body = bytearray()
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit * _DRAINED:
            break
        if size <= limit:
            body += chunk
    if size > limit:
        raise BodyTooLarge(f"The request body is too large; the limit is {limit} bytes.")
    parsed = _JsonRequest(request.scope, request.receive)
    parsed._body = bytes(body)
    try:
        parsed.parsed = from_json(bytes(body), allow_inf_nan=False, cache_strings="keys")
    except ValueError as error:
        hint = " (a lone surrogate is not a character)" if "hex escape" in str(error) else ""
        raise RequestValidationError(
            [{"type": "json_invalid", "loc": ("body",), "msg": f"invalid JSON: {error}{hint}"}]
        ) from None
    return parsed
