"""The OpenAPI document, with the limits in force and problem details in place of FastAPI's own."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from app.api.idempotency import MOST_CHARS
from app.api.limits import current_limits
from app.api.problems import Problem


def openapi(app: FastAPI) -> dict[str, Any]:
    """The document of `app`, made once."""
    if app.openapi_schema is None:
        token = current_limits.set(app.state.manager.settings.limits)
        try:
            schema = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
        finally:
            current_limits.reset(token)
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = schema["components"]["schemas"]
        schemas.update(problem.pop("$defs", {}), Problem=problem)
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        _leave_out_null(schema)
        _ask_for_key(schema)
        _tell_of_freshness(schema)
        _tell_of_patches(schema)
        _tell_of_keys(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _leave_out_null(schema: dict[str, Any]) -> None:
    """Tell of query parameters that they are optional, not that they may be null.

    A URL has no null, and generators of clients drop a parameter that may be one.
    """
    for operations in schema["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                own = parameter["schema"]
                given = [one for one in own.get("anyOf", ()) if one != {"type": "null"}]
                if len(given) == 1:
                    del own["anyOf"]
                    own.update(given[0])


_KEY = {
    "HTTPBearer": {
        "type": "http",
        "description": "An API key of MEMORY_API_KEYS.",
        "scheme": "bearer",
    }
}


def _ask_for_key(schema: dict[str, Any]) -> None:
    """Tell that every /v1 operation takes a key; `authorise` asks for it, before FastAPI is asked.

    As a dependency of the routes it would cost each request a tenth of its time.
    """
    schema["components"]["securitySchemes"] = _KEY
    for path, operations in schema["paths"].items():
        if path.startswith("/v1/"):
            for operation in operations.values():
                operation["security"] = [{"HTTPBearer": []}]


_FRESHNESS = {
    "name": "Cache-Control",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "no-cache: do not answer from a cache; no-store: nor keep the answer in one.",
}


def _tell_of_freshness(schema: dict[str, Any]) -> None:
    """Tell that recalls take a `Cache-Control`, which the routes' class reads."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            if operation["operationId"] in {"recall", "recall_knowledge"}:
                operation.setdefault("parameters", []).append(_FRESHNESS)


_IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "ETags, one of which the record must have, or *: else it is not changed (412).",
}


def _tell_of_patches(schema: dict[str, Any]) -> None:
    """Tell that a PATCH takes an `If-Match`, and its body under the type of a merge patch too."""
    for operations in schema["paths"].values():
        if "patch" in operations:
            operations["patch"]["parameters"].append(_IF_MATCH)
            content = operations["patch"]["requestBody"]["content"]
            content["application/merge-patch+json"] = content["application/json"]


_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": MOST_CHARS, "pattern": "^[!-~]+$"},
    "description": "Your own text for this request, in the place of ids in its body: sent again "
    "with the same body it answers with what is there (200), and with another body 409.",
}


def _tell_of_keys(schema: dict[str, Any]) -> None:
    """Tell that stores take an `Idempotency-Key`."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            if operation["operationId"].startswith("store"):
                operation.setdefault("parameters", []).append(_IDEMPOTENCY_KEY)
