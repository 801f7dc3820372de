"""HEAD for every path that GET has: the same answer without its body (RFC 9110, 9.3.2)."""

from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WITHOUT_BODY: Final = "without_body"
"""What a request has in its scope when nobody will see the body of the answer."""


class HeadMiddleware:
    """Asks as if with GET, and keeps the body back; what is outside still sees a HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        asked = {**scope, "method": "GET", WITHOUT_BODY: True}
        try:
            await self._app(asked, receive, answer)
        finally:
            scope["route"] = asked.get("route")  # for the log
