"""Errors as RFC 9457 problem details: one shape for all, with a stable code and the request id."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match, Mount

from app.api.request_id import request_id
from app.core.memory.batches import MOST_NAMED
from app.errors import (
    CapabilityMissing,
    Conflict,
    DriverUnavailable,
    InvalidInput,
    MemoryServiceError,
    ShuttingDown,
)
from app.logs import get_logger

_log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class CutShort(Exception):
    """An answer that has begun can't be ended: the connection is closed in the middle of it.

    Whoever raises it has logged why.
    """


class ProblemPlace(BaseModel):
    """What is wrong with one value of the input."""

    loc: list[str | int] = Field(
        description="The path to the value: body, query, path or header first."
    )
    msg: str
    type: str


class Problem(BaseModel):
    """Problem details for an HTTP API (RFC 9457)."""

    type: str = Field("about:blank", description="Always about:blank; `code` tells the kind.")
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable: programs may rely on it.")
    request_id: str = Field(description="Also in the header X-Request-ID and in the log.")
    errors: list[ProblemPlace] | None = Field(
        None,
        description="The places of bad input, or of what is in conflict with a record. Of a batch "
        "those of every bad entry; twenty at most.",
    )


def problems(*kinds: type[MemoryServiceError]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these errors."""
    by_status: dict[int, list[type[MemoryServiceError]]] = {}
    for kind in kinds:
        by_status.setdefault(kind.status, []).append(kind)
    return {
        status: {
            "description": " ".join(kind.default_message() for kind in same),
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": _example(same[0]),
                }
            },
        }
        for status, same in sorted(by_status.items())
    }


def _example(kind: type[MemoryServiceError]) -> dict[str, Any]:
    return {
        "type": "about:blank",
        "title": HTTPStatus(kind.status).phrase,
        "status": kind.status,
        "detail": kind.default_message(),
        "code": kind.code,
        "request_id": "01a2041e-3795-7337-a045-ffd936bf1f5e",
    }


def install_problems(app: FastAPI) -> None:
    """Answer every error of `app` with a problem."""
    app.add_exception_handler(MemoryServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _disconnected)
    app.add_exception_handler(Exception, _unexpected)


def problem(
    status: int,
    code: str,
    detail: str,
    errors: Sequence[Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response for one error."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id.get(),
    }
    if errors is not None:
        content["errors"] = errors
    return JSONResponse(content, status, headers, MEDIA_TYPE)


_EXPECTED = (CapabilityMissing, DriverUnavailable, ShuttingDown)
"""Not logged for each request: the change of state behind it is logged once, where it happens."""


async def _service_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, MemoryServiceError)  # noqa: S101 - registered for nothing else
    if error.status >= 500 and not isinstance(error, _EXPECTED):
        _log.warning("request_failed", code=error.code, reason=error.reason)
    if isinstance(error, Conflict):
        place = _place(_located(error.loc, request), str(error), error.code)
        return _at_places(Conflict, [place])
    if not isinstance(error, InvalidInput):
        return problem(error.status, error.code, error.detail, headers=error.headers)
    errors = (error, *error.others)
    places = [_place(_located(e.loc, request), str(e), e.code) for e in errors]
    return _at_places(InvalidInput, places)


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    # Only what the caller may see again: `input` could hold what no JSON can.
    places = []
    for e in _told(error.errors()):
        context = e.get("ctx", {})
        loc = (*e["loc"], *context.get("within", ()))
        places.append(_place(loc, context.get("message", e["msg"]), e["type"]))
    return _at_places(InvalidInput, places)


def _told(errors: Sequence[Any]) -> list[Any]:
    """Up to `MOST_NAMED` of the errors, in their order: of every entry of a batch the first one.

    Further errors of the entries take the places that are left.
    """
    entries = [e["loc"][:3] if _in_entry(e["loc"]) else n for n, e in enumerate(errors)]
    firsts = {entry: n for n, entry in reversed([*enumerate(entries)])}
    order = sorted(range(len(errors)), key=lambda n: firsts[entries[n]] != n)
    return [errors[n] for n in sorted(order[:MOST_NAMED])]


def _in_entry(loc: Sequence[str | int]) -> bool:
    """Whether it is the place of an entry, or in one: a body, the batch and a number."""
    return len(loc) > 2 and isinstance(loc[2], int)


def _at_places(kind: type[MemoryServiceError], places: list[dict[str, Any]]) -> Response:
    first = places[0]
    where = ".".join(str(part) for part in first["loc"])
    return problem(kind.status, kind.code, f"{where}: {first['msg']}", places)


def _place(loc: Sequence[str | int], message: str, kind: str) -> dict[str, Any]:
    return {"loc": [_printable(part) for part in loc], "msg": _printable(message), "type": kind}


def _located(loc: tuple[str | int, ...], request: Request) -> tuple[str | int, ...]:
    """`loc` after the part of the request that it is in; drivers know their arguments only."""
    if loc and loc[0] in ("body", "query", "path", "header"):
        return loc
    if loc and loc[0] in request.path_params:
        return ("path", *loc)
    if loc and loc[0] in request.query_params:
        return ("query", *loc)
    return ("body" if request.method in ("POST", "PUT", "PATCH") else "query", *loc)


_LONGEST = 200


def _printable(part: str | int) -> str | int:
    """What of the caller's own text may be told again."""
    if isinstance(part, int):
        return part
    text = part.encode(errors="replace").decode()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_CODES = {404: "no_such_path", 405: "method_not_allowed"}
_METHODS = ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")


async def _http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    status = error.status_code
    code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "_"))
    headers = error.headers
    if status == 405:
        headers = {"Allow": ", ".join(_allowed(request, (headers or {}).get("Allow", "")))}
    return problem(status, code, str(error.detail), headers=headers)


def _allowed(request: Request, told: str) -> list[str]:
    """The methods of every route of this path; Starlette tells those of the first one only.

    A mounted application, which matches any method, has told its own.
    """
    routes = [route for route in request.app.router.routes if not isinstance(route, Mount)]
    allowed = {
        method
        for method in _METHODS
        if any(
            route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes
        )
    }
    if "GET" in allowed:
        allowed.add("HEAD")
    return sorted(allowed) or [told]


async def _disconnected(_: Request, __: Exception) -> Response:
    """For nobody: the client left before its request was complete."""
    return Response(status_code=400)


async def _unexpected(_: Request, error: Exception) -> Response:
    # Starlette calls this outside of the middleware that would add the id.
    if not isinstance(error, CutShort):
        _log.error("unexpected_error", request_id=request_id.get(), exc_info=error)
    return problem(
        MemoryServiceError.status,
        MemoryServiceError.code,
        MemoryServiceError.default_message(),
        headers={"X-Request-ID": request_id.get()},
    )
