"""Bodies of records that are never whole in memory: sent and read as JSON lines, piece by piece."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from fastapi import Request
from starlette.responses import StreamingResponse

from app.api.head import WITHOUT_BODY
from app.api.problems import CutShort
from app.api.route import BODY_SECONDS, is_encoded
from app.errors import BodyTimeout, MemoryServiceError, UnsupportedEncoding, UnsupportedLines
from app.logs import get_logger

JSON_LINES: Final = "application/x-ndjson"
BYTES: Final = "application/octet-stream"
"""What clients that are generated from the API's description call it, as they know no lines."""
_TAKEN: Final = {
    JSON_LINES,
    "application/ndjson",
    "application/jsonl",
    "application/x-jsonlines",
    BYTES,
}

_log = get_logger(__name__)


async def answer_with(request: Request, pieces: AsyncGenerator[bytes, None]) -> StreamingResponse:
    """An answer of these pieces; what goes wrong before the first one is raised.

    What goes wrong later closes the connection, so that no client takes a part for the whole. For a
    HEAD only the first is made.
    """
    first = await anext(pieces, b"")
    if WITHOUT_BODY in request.scope:
        await pieces.aclose()

    async def all_pieces() -> AsyncIterator[bytes]:
        yield first
        try:
            async for piece in pieces:
                yield piece
        except MemoryServiceError as error:
            _log.warning("export_cut_short", code=error.code, reason=error.reason)
            raise CutShort from error

    asked = request.headers.get("accept", "").partition(";")[0].strip().lower()
    return StreamingResponse(all_pieces(), media_type=BYTES if asked == BYTES else JSON_LINES)


async def lines_sent(request: Request) -> AsyncIterator[bytes]:
    """The pieces of a body of JSON lines, as they come.

    Raises `UnsupportedLines` and `UnsupportedEncoding` before the first, and `BodyTimeout` where
    the client sends none for a minute.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in _TAKEN:
        raise UnsupportedLines
    if is_encoded(request):
        raise UnsupportedEncoding
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(BODY_SECONDS):
                piece = await anext(stream, None)
        except TimeoutError:
            raise BodyTimeout from None
        if piece is None:
            return
        yield piece
