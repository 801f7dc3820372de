"""A reranking endpoint on a real socket, with all that real ones do."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

Raw: TypeAlias = tuple[int, dict[str, str], Any]
"""A status, headers, and a body: bytes, or what becomes JSON."""


def copper(text: str) -> float:
    """How much of a text is copper, which is what the endpoint's model looks for."""
    said = text.lower().split()
    return said.count("copper") / (1 + len(said))


class Endpoint:
    """Scores by `score`; `traps` are taken in turn in place of the answer.

    A trap is a number of seconds to wait before it, a raw answer, or None: the connection is cut.
    """

    def __init__(self) -> None:
        self.traps: list[Raw | float | None] = []
        self.always: Raw | float | None = 0.0
        """What is done where no trap is left."""
        self.score: Callable[[str], float] = copper
        self.change: Callable[[Any], Any] = lambda answer: answer
        self.bodies: list[dict[str, Any]] = []
        self.heads: list[dict[str, str]] = []
        self.lines: list[str] = []
        """The first line of each request."""
        self.running = 0
        """Calls under way."""
        self.most = 0
        """The most of them at the same time."""
        self.connections = 0
        self.url = ""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await self._one(reader, writer):
                pass
        self.connections -= 1
        writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, _, head = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")
        fields = dict(one.split(": ", 1) for one in head.lower().split("\r\n") if one)
        body = json.loads(await reader.readexactly(int(fields["content-length"])))
        self.lines.append(line)
        self.heads.append(fields)
        self.bodies.append(body)
        trap = self.traps.pop(0) if self.traps else self.always
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if trap is None:
                return False
            if isinstance(trap, float):
                if not await self._waited(reader, trap):
                    return False
                trap = (200, {}, self.change(self._scored(body)))
            status, headers, content = trap
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            said = {"Content-Length": str(len(raw)), **headers}
            lines = [f"HTTP/1.1 {status} X", *(f"{name}: {each}" for name, each in said.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
            await writer.drain()
        finally:
            self.running -= 1
        return True

    async def _waited(self, reader: asyncio.StreamReader, seconds: float) -> bool:
        """Whether the caller stayed for so long."""
        if seconds == 0.0:
            return True
        try:
            async with asyncio.timeout(seconds):
                await reader.read(1)
        except TimeoutError:
            return True
        return False

    def _scored(self, body: dict[str, Any]) -> Any:
        if "texts" in body:
            found = [{"index": n, "score": self.score(t)} for n, t in enumerate(body["texts"])]
            return sorted(found, key=lambda item: item["score"], reverse=True)
        found = [
            {"index": n, "relevance_score": self.score(text)}
            for n, text in enumerate(body["documents"])
        ]
        return {
            "id": "x",
            "results": sorted(found, key=lambda item: item["relevance_score"], reverse=True),
        }


@asynccontextmanager
async def running() -> AsyncIterator[Endpoint]:
    """An endpoint on loopback, until the end."""
    endpoint = Endpoint()
    server = await asyncio.start_server(endpoint.answer, "127.0.0.1", 0)
    endpoint.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield endpoint
    finally:
        server.close()
