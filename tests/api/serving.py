"""The real application over the `inmemory` driver, called in this process or over a socket."""

import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import httpx
import uvicorn
from fastapi import FastAPI

from app.api.connection import bounded
from app.api.protocol import HttpProtocol
from app.core.memory.base import BaseMemoryDriver, DriverContext
from app.core.memory.manager import MemoryDriverManager
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.main import create_app
from app.settings import Settings

JSON = {"Content-Type": "application/json"}
Maker = Callable[[DriverContext], BaseMemoryDriver]


@dataclass
class Api:
    """An application, its driver and a client of it."""

    app: FastAPI
    driver: BaseMemoryDriver
    client: httpx.AsyncClient

    async def post(self, path: str, body: object, **options: Any) -> httpx.Response:
        """Send `body` as JSON, or as it is when it is bytes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.client.post(path, content=content, headers=JSON, **options)

    async def records(self) -> int:
        """How many records the driver keeps."""
        facts = (await self.driver.health_check()).facts
        return int(facts["memories"]) + int(facts["knowledge"])


def build_app(embedder: Embedder, maker: Maker | None = None, **settings: Any) -> FastAPI:
    """The application on `inmemory`, with the given embedder, or on what `maker` makes."""
    MemoryDriverManager.register_driver(
        "inmemory", maker or (lambda context: InMemoryDriver(embedder, context.settings.limits))
    )
    try:
        return create_app(MemoryDriverManager(Settings(driver="inmemory", **settings)))
    finally:
        MemoryDriverManager.reset_cache()


@asynccontextmanager
async def serving(
    embedder: Embedder,
    maker: Maker | None = None,
    *,
    peer: str = "127.0.0.1",
    host: str = "localhost",
    raising: bool = True,
    **settings: Any,
) -> AsyncIterator[Api]:
    """The application with its lifespan. `raising`: an unexpected exception fails the test."""
    app = build_app(embedder, maker, **settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=raising, client=(peer, 50_000))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client,
    ):
        yield Api(app, app.state.driver, client)


@contextmanager
def listening(app: FastAPI) -> Iterator[int]:
    """The application behind uvicorn on a socket of its own; the port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = uvicorn.Config(
            app, http=bounded(HttpProtocol), ws="none", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join(10)


def read_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem in `response`, after a check of all that every problem promises."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(
        response.content.decode(), parse_constant=_refuse, object_pairs_hook=_without_repetition
    )
    json.dumps(problem, ensure_ascii=False).encode()  # no lone surrogate in it
    assert list(problem)[:6] == ["type", "title", "status", "detail", "code", "request_id"]
    assert problem["type"] == "about:blank"
    assert problem["title"]
    assert problem["detail"]
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert len(response.content) < 4_000
    return problem


def read_places(response: httpx.Response) -> list[list[str | int]]:
    """The places that an answer to invalid input names."""
    problem = read_problem(response, 422, "invalid_input")
    assert all(set(place) == {"loc", "msg", "type"} for place in problem["errors"])
    first = problem["errors"][0]
    assert problem["detail"] == f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return [place["loc"] for place in problem["errors"]]


def _refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is not JSON")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)
