"""What a request gets that outlives the time that a stopping service gives."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import problem
from app.errors import ShuttingDown


class ShutdownMiddleware:
    """Answers a request that the server cancels, where nothing was answered yet."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = False

        async def answer(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        try:
            await self._app(scope, receive, answer)
        except asyncio.CancelledError:
            if answering or scope["type"] != "http":
                raise
            error = ShuttingDown()
            response = problem(error.status, error.code, error.detail, headers=error.headers)
            await response(scope, receive, send)
