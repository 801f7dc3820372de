"""The way of every /v1 request before its route: authorise, then bound and parse the body."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from inspect import iscoroutinefunction, signature
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

import structlog
from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from app.api.auth import authorise, check_scope, scope_of
from app.api.batches import with_entries_refused
from app.api.body import parse
from app.api.dependencies import DriverDep, driver_of
from app.api.limits import current_limits
from app.api.paths import check_free_text, free_text
from app.errors import (
    BodyTimeout,
    BodyTooLarge,
    InvalidInput,
    UnsupportedEncoding,
    UnsupportedMediaType,
    UnsupportedPatch,
)
from app.settings import Settings
from app.strict_json import first_repeated
from app.wrappers.cache.freshness import Freshness, freshness

BODY_SECONDS = 60.0
"""How long to wait for all of a request's body, then 408: 8 MB take that at a megabit a second."""
_DRAINED = 8
"""How many times the limit is read and dropped, so that the client gets to read the answer."""


_PATCHES = ("application/merge-patch+json", "application/json")
"""Other patches, such as application/json-patch+json, mean something else."""

_Handle = Callable[[Request], Coroutine[Any, Any, Response]]
_Validate = Callable[..., tuple[Any, list[Any]]]
"""FastAPI's, of the field that is the body."""


class _JsonRequest(Request):
    """A request whose JSON is already parsed; a large one is the model already."""

    parsed: Any

    async def json(self) -> Any:
        return self.parsed


class ApiRoute(APIRoute):
    """A route that refuses what must not reach the parser; its endpoint has to say what it `needs`.

    The key, or None, is the request's `state.api_key`.
    """

    def get_route_handler(self) -> _Handle:
        body = self.body_field
        model: Any = None if body is None else body.field_info.annotation
        handle = super().get_route_handler()
        needed = [each.call for each in self.dependant.dependencies]
        if body is not None and needed == [driver_of] and _is_direct(self.endpoint, model):
            handle = _direct(self.endpoint, body.validate)
        in_batches = bool(getattr(model, "many", False))
        has_query = bool(self.dependant.query_params)
        scope = scope_of(self.endpoint)
        tenant_scope = scope_of(self.endpoint, of_tenant=True)
        in_path = free_text(self.endpoint, self.param_convertors)

        async def checked(request: Request) -> Response:
            settings: Settings = request.app.state.manager.settings
            key = authorise(request, settings)
            request.state.api_key = key
            if key is not None and key.name is not None:
                structlog.contextvars.bind_contextvars(api_key=key.name)
            is_tenants = key is not None and key.tenant is not None
            check_scope(key, tenant_scope if is_tenants else scope)
            free = [request.path_params[name] for name, _ in in_path]
            _check_url(request, has_query=has_query, free=free)
            check_free_text(request, in_path)
            token, wanted = current_limits.set(settings.limits), freshness.set(_freshness(request))
            try:
                if body is not None:
                    most = settings.limits.body_bytes
                    if not in_batches:
                        most = min(most, settings.limits.one_record_bytes)
                    request = await _parse(request, body.validate, settings, most)
                return await handle(request)
            except RequestValidationError as error:
                if getattr(model, "batch", None) is None:
                    raise
                part = request.app.state.tenants.part(key)
                raise await with_entries_refused(error, model, part) from None
            finally:
                freshness.reset(wanted)
                current_limits.reset(token)

        return checked


def _is_direct(endpoint: Callable[..., Any], model: Any) -> bool:
    """Whether the endpoint takes its body and the driver alone, and makes the response itself."""
    own = signature(endpoint)
    taken = [parameter.annotation for parameter in own.parameters.values()]
    makes_it = iscoroutinefunction(endpoint) and own.return_annotation is Response
    return makes_it and taken == [model, DriverDep]


def _direct(endpoint: Callable[..., Any], validate: _Validate) -> _Handle:
    """Calls an endpoint that `_is_direct`: FastAPI's way takes longer than many a recall."""
    body, driver = signature(endpoint).parameters

    async def handle(request: Request) -> Response:
        model = _validated(validate, await request.json())
        response: Response = await endpoint(**{body: model, driver: await driver_of(request)})
        return response

    return handle


def _freshness(request: Request) -> Freshness:
    """What `Cache-Control` asks for; what it does not ask for here is ignored (RFC 9111, 5.2.1)."""
    header = ",".join(request.headers.getlist("cache-control")).lower()
    directives = {directive.strip() for directive in header.split(",")}
    if "no-store" in directives:
        return "unkept"
    return "fresh" if "no-cache" in directives else "cached"


def _check_url(request: Request, *, has_query: bool, free: Sequence[str]) -> None:
    """Refuse a URL that could be understood in two ways, and parameters that nobody reads.

    `free`: what the path has as parameters that are any text.
    """
    # `$` of Starlette's patterns does not mind a line break that is of no parameter.
    if request.scope["path"].endswith("\n") and not any(text.endswith("\n") for text in free):
        raise HTTPException(404)
    try:
        unquote_to_bytes(request.scope.get("raw_path") or b"").decode()
    except UnicodeDecodeError:
        raise InvalidInput("the path is not UTF-8", ("path",)) from None
    try:
        query = request.scope["query_string"].decode("ascii")
        names = [name for name, _ in parse_qsl(query, keep_blank_values=True, errors="strict")]
    except UnicodeDecodeError:
        raise InvalidInput("the query is not percent-encoded UTF-8", ("query",)) from None
    if names and not has_query:
        raise InvalidInput("there are no query parameters here", ("query", names[0]))
    repeated = first_repeated(names)
    if repeated is not None:
        raise InvalidInput("the parameter is given twice", ("query", repeated))


async def _parse(request: Request, validate: _Validate, settings: Settings, most: int) -> Request:
    """The request with its body's JSON, of `most` bytes."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if request.method == "PATCH":
        if media_type not in _PATCHES:
            raise UnsupportedPatch
    elif media_type != "application/json" and not (
        media_type.startswith("application/") and media_type.endswith("+json")
    ):
        raise UnsupportedMediaType
    if is_encoded(request):
        raise UnsupportedEncoding
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request, most)
    except TimeoutError:
        raise BodyTimeout from None
    parsed = _JsonRequest(request.scope, request.receive)
    parsed._body = body
    parsed.parsed = await parse(body, most, partial(_validated, validate))
    return parsed


def is_encoded(request: Request) -> bool:
    """Whether the body's bytes are not those of its JSON, such as of one that is compressed."""
    headers = request.headers.getlist
    given = ",".join([*headers("content-encoding"), *headers("transfer-encoding")])
    codings = {coding.strip().lower() for coding in given.split(",")}
    return not codings <= {"", "identity", "chunked"}


def _validated(validate: _Validate, value: Any) -> Any:
    """The model, which FastAPI takes as it is: a large one is not made on the loop."""
    model, errors = validate(value, {}, loc=("body",))
    if errors:
        raise RequestValidationError(errors, body=value)
    return model


async def _read(request: Request, limit: int) -> bytes:
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
    return bytes(body)
