"""What the fake Pinecone reads of requests, and how its answers and refusals look."""

import base64
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from tests.drivers.pinecone_space import Stored

BODIES = {
    "/vectors/upsert": {"vectors", "namespace"},
    "/query": {
        "vector",
        "id",
        "topK",
        "namespace",
        "filter",
        "includeValues",
        "includeMetadata",
        "sparseVector",
    },
    "/vectors/delete": {"ids", "deleteAll", "filter", "namespace"},
    "/vectors/fetch_by_metadata": {"namespace", "filter", "limit", "paginationToken"},
    "/describe_index_stats": {"filter"},
    "/namespaces": {"name", "schema"},
}
"""The fields that each body may have: another is refused."""
DOCUMENTS = (
    "This index has a document schema, so writes must go through the documents API at "
    "/namespaces/{namespace}/documents/upsert"
)


def whole(one: str, stored: Stored) -> dict[str, Any]:
    return {"id": one, "values": stored.values.tolist(), "metadata": stored.metadata}


def cut(
    found: list[str], prefix: str, limit: str | None, token: str | None
) -> tuple[list[str], dict[str, Any]]:
    """A page, and what continues it: a token that was made for another list is taken all the
    same."""
    count = int(limit) if limit is not None and limit.isdigit() else 100
    if not 1 <= count <= 100:
        raise HTTPException(400, "limit must be between 1 and 100")
    if token is not None:
        after = json.loads(base64.b64decode(token))["skip_past"]
        found = [one for one in found if one > after]
    if len(found) <= count:
        return found, {}
    following = json.dumps({"skip_past": found[count - 1], "prefix": prefix})
    return found[:count], {"pagination": {"next": base64.b64encode(following.encode()).decode()}}


def namespace_in(given: Any) -> str:
    if not isinstance(given, str) or not given.isascii() or len(given) > 512 or "\0" in given:
        raise HTTPException(400, "a namespace has up to 512 ASCII characters")
    return given or "__default__"


def parsed(body: bytes) -> Any:
    try:
        return json.loads(body) if body else {}
    except ValueError:
        return {}


async def body_of(request: Request) -> dict[str, Any]:
    try:
        found = await request.json()
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    return found if isinstance(found, dict) else {}


def refusal(code: int, message: str, status: int) -> JSONResponse:
    return JSONResponse({"code": code, "message": message, "details": []}, status)


async def problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.detail.startswith("plain:"):
        return PlainTextResponse(error.detail.removeprefix("plain:"), error.status_code)
    code = {400: 3, 404: 5, 409: 6, 412: 9, 429: 8}.get(error.status_code, 2)
    return refusal(code, error.detail, error.status_code)


def unauthorized(path: str) -> Response:
    if path.startswith("/indexes"):
        told = {"code": "UNAUTHENTICATED", "message": "Invalid API key."}
        return JSONResponse({"error": told, "status": 401}, 401)
    return PlainTextResponse("Invalid API Key", 401)
