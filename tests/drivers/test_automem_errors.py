"""Every error that httpx or AutoMem can give leaves the driver as one of ours."""

import inspect
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr

from app.drivers.automem import AutomemDriver
from app.drivers.automem.errors import backend_errors
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    InvalidInput,
    MemoryServiceError,
    PoolExhausted,
)
from app.settings import AutomemSettings, Limits

URL = "http://automem.internal:8001"
TOKEN = "hunter2-token"  # noqa: S105 - no secret
REQUEST = httpx.Request("GET", f"{URL}/recall?query=secret")

PUBLIC: list[type[Exception]] = [
    kind
    for name in httpx.__all__
    if inspect.isclass(kind := getattr(httpx, name)) and issubclass(kind, Exception)
]


def make(kind: type[Exception]) -> Exception:
    if kind is httpx.HTTPStatusError:
        return httpx.HTTPStatusError("secret", request=REQUEST, response=httpx.Response(500))
    stateless = {httpx.StreamConsumed, httpx.StreamClosed, httpx.ResponseNotRead}
    stateless |= {httpx.RequestNotRead}
    return kind() if kind in stateless else kind("secret")


def test_there_is_something_to_map() -> None:
    assert len(PUBLIC) > 25


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_error_is_mapped(kind: type[Exception]) -> None:
    original = make(kind)
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise original
    assert raised.value.__cause__ is original
    assert "secret" not in str(raised.value) + raised.value.detail + raised.value.reason


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (httpx.ConnectError, DriverUnavailable),
        (httpx.ConnectTimeout, DriverUnavailable),
        (httpx.ReadTimeout, DriverTimeout),
        (httpx.WriteTimeout, DriverTimeout),
        (httpx.PoolTimeout, PoolExhausted),
        (httpx.ReadError, ConnectionLost),
        (httpx.RemoteProtocolError, ConnectionLost),
        (httpx.ProxyError, DriverUnavailable),
        (httpx.LocalProtocolError, DriverError),
        (httpx.DecodingError, DriverError),
        (httpx.TooManyRedirects, DriverError),
        (httpx.UnsupportedProtocol, ConfigurationError),
        (httpx.InvalidURL, ConfigurationError),
        (TimeoutError, DriverTimeout),
        (ConnectionResetError, DriverUnavailable),
    ],
)
def test_an_error_means_what_its_kind_says(
    kind: type[Exception], expected: type[MemoryServiceError]
) -> None:
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise kind("secret")
    assert type(raised.value) is expected


def test_our_own_errors_and_bugs_pass_unchanged() -> None:
    for error in (InvalidInput("x"), KeyError("x")):
        with pytest.raises(type(error)) as raised, backend_errors():
            raise error
        assert raised.value is error


@pytest.fixture
async def driver() -> AsyncIterator[AutomemDriver]:
    """A driver that was never opened, with two quick repeats."""
    settings = AutomemSettings(url=URL, api_token=SecretStr(TOKEN))
    driver = AutomemDriver(settings, Limits())
    yield driver
    await driver.close()


@pytest.fixture
def routes() -> Any:
    with respx.mock(base_url=URL, assert_all_called=False) as routes:
        yield routes


def status(code: int) -> httpx.Response:
    body = {"status": "error", "code": code, "message": "falkor.internal: secret"}
    return httpx.Response(code, json=body)


EMPTY = httpx.Response(200, json={"memories": [], "has_more": False})
HTML = httpx.Response(414, html="<html>secret: Request-URI Too Long</html>")


@pytest.mark.parametrize(
    ("answer", "expected", "calls"),
    [
        (status(400), DriverError, 1),
        (status(401), ConfigurationError, 1),
        (status(403), ConfigurationError, 1),
        (status(404), DriverError, 1),
        (status(405), DriverError, 1),
        (HTML, DriverError, 1),
        (status(429), DriverUnavailable, 3),
        (status(500), DriverUnavailable, 1),
        (status(502), DriverUnavailable, 3),
        (status(503), DriverUnavailable, 3),
        (status(504), DriverTimeout, 3),
        (httpx.Response(301, headers={"Location": "http://elsewhere/"}), DriverError, 1),
        (httpx.Response(200, html="<html>secret</html>"), DriverError, 1),
        (httpx.Response(200, json=[1]), DriverError, 1),
        (httpx.Response(200, json={"memories": 7}), DriverError, 1),
        (httpx.ConnectError("secret"), DriverUnavailable, 3),
        (httpx.ReadTimeout("secret"), DriverTimeout, 3),
        (httpx.PoolTimeout("secret"), PoolExhausted, 1),
        (httpx.RemoteProtocolError("secret"), ConnectionLost, 3),
    ],
    ids=lambda value: repr(value).replace("secret", ""),
)
async def test_a_failed_read_is_ours_and_repeated_only_when_it_may_pass(
    driver: AutomemDriver,
    routes: respx.MockRouter,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
    expected: type[MemoryServiceError],
    calls: int,
) -> None:
    caplog.set_level(logging.WARNING)
    route = routes.get("/memory/by-tag").mock(side_effect=[answer] * calls)
    with pytest.raises(MemoryServiceError) as raised:
        await driver.recall("ada")
    assert type(raised.value) is expected
    assert route.call_count == calls
    said = f"{raised.value} {raised.value.detail} {raised.value.reason} {caplog.text}"
    for hidden in ("secret", TOKEN, "falkor"):
        assert hidden not in said


async def test_a_read_that_works_the_second_time_is_an_answer(
    driver: AutomemDriver, routes: respx.MockRouter
) -> None:
    route = routes.get("/memory/by-tag").mock(side_effect=[status(503), EMPTY])
    assert await driver.recall("ada") == []
    assert route.call_count == 2
    assert route.calls[0].request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert TOKEN not in str(route.calls[0].request.url)


async def test_a_post_that_may_have_arrived_is_looked_up_before_it_is_repeated(
    driver: AutomemDriver, routes: respx.MockRouter
) -> None:
    stored = httpx.Response(201, json={"stored": 1, "qdrant": "stored (1)"})
    post = routes.post("/memory/batch").mock(side_effect=[httpx.ReadError(""), stored])
    look = routes.get("/memory/by-tag").mock(side_effect=[EMPTY])
    memory = await driver.store("ada", "kettle")
    assert [call.request.method for call in routes.calls] == ["POST", "GET", "POST"]
    assert (post.call_count, look.call_count) == (2, 1)
    bodies = [call.request.content for call in post.calls]
    assert bodies[0] == bodies[1]
    assert memory.memory_id.encode() in bodies[0]


@pytest.mark.parametrize("code", [500, 503, 504])
async def test_a_post_that_never_arrives_is_an_error_in_the_end(
    driver: AutomemDriver, routes: respx.MockRouter, code: int
) -> None:
    routes.post("/memory/batch").mock(side_effect=[status(code)] * 3)
    routes.get("/memory/by-tag").mock(return_value=EMPTY)
    with pytest.raises((DriverUnavailable, DriverTimeout)):
        await driver.store("ada", "kettle")


async def test_a_refused_post_is_neither_repeated_nor_looked_up(
    driver: AutomemDriver, routes: respx.MockRouter
) -> None:
    routes.post("/memory/batch").mock(side_effect=[status(400)])
    with pytest.raises(DriverError):
        await driver.store("ada", "kettle")
    assert len(routes.calls) == 1


async def test_a_delete_whose_answer_was_lost_has_deleted(
    driver: AutomemDriver, routes: respx.MockRouter
) -> None:
    posted = routes.post("/memory/batch").mock(
        return_value=httpx.Response(201, json={"stored": 1, "qdrant": "stored (1)"})
    )
    memory = await driver.store("ada", "kettle")
    [body] = json.loads(posted.calls[0].request.content)["memories"]
    node = {**body, "id": "0b46c936-0000-4000-8000-000000000000"}
    there = httpx.Response(200, json={"memories": [node], "has_more": False})
    routes.get("/memory/by-tag").mock(side_effect=[there, there, EMPTY])
    path = f"/memory/{node['id']}"
    routes.delete(path).mock(side_effect=[httpx.ReadError(""), status(404), status(404)])
    assert await driver.delete(memory.memory_id, "ada") is True
    # Another service is quicker: what it left is looked for, and there is nothing.
    assert await driver.delete(memory.memory_id, "ada") is False
