"""Records out of the service and in again, as JSON lines."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import StreamingResponse

from app.api.auth import check_scope, needs
from app.api.dependencies import ALWAYS, OPTIONAL, WITH_BODY, DriverDep
from app.api.problems import problems
from app.api.requests import ExportParameters
from app.api.responses import Imported
from app.api.route import ApiRoute
from app.api.streaming import BYTES, JSON_LINES, answer_with, lines_sent
from app.errors import UnsupportedLines
from app.settings import Settings
from app.transfer.exporting import export_lines
from app.transfer.importing import import_lines

router = APIRouter(prefix="/v1", tags=["transfer"], route_class=ApiRoute)

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "description": "What an export has, also as application/x-ndjson.",
    "content": {BYTES: _BINARY},
}


@router.get(
    "/export",
    operation_id="export",
    response_class=StreamingResponse,
    responses={
        200: {
            "description": "One record a line, users by their ids and knowledge last; then a line "
            "with the counts and the SHA-256 of all lines before it.",
            "content": {JSON_LINES: _BINARY, BYTES: _BINARY},
        },
        **problems(*ALWAYS, *OPTIONAL),
    },
)
@needs("read")
async def export_records(
    request: Request, parameters: Annotated[ExportParameters, Query()], driver: DriverDep
) -> StreamingResponse:
    """Stream one user's memories or, for a tenant's key or the scope admin, every record."""
    key = request.state.api_key
    if parameters.user_id is None and (key is None or key.tenant is None):
        check_scope(key, "admin")
    lines = export_lines(
        driver, parameters.user_id, since=parameters.since, vectors=parameters.vectors
    )
    return await answer_with(request, lines)


@router.post(
    "/import",
    operation_id="import",
    responses=problems(*WITH_BODY, *OPTIONAL, UnsupportedLines),
    openapi_extra={"requestBody": _BODY},
)
@needs("admin", of_tenant="write")
async def import_records(request: Request, driver: DriverDep) -> Imported:
    """Keep what an export has: each record is inserted, or replaces an older version of itself.

    The same import again changes nothing. One that fails may have kept what came before the line
    that is told.
    """
    settings: Settings = request.app.state.manager.settings
    told = await import_lines(driver, lines_sent(request), settings.limits)
    return Imported(memories=told.kept.memories, knowledge=told.kept.knowledge)
