"""Every error that httpx or Pinecone can give leaves the driver as one of ours."""

import inspect
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from app.core.memory.records import NewMemory
from app.drivers.pinecone import PineconeDriver
from app.drivers.pinecone.client import PineconeClient
from app.drivers.pinecone.errors import Answered, backend_errors, pause
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    InvalidInput,
    MemoryServiceError,
)
from app.settings import PineconeSettings
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import FakePinecone
from tests.drivers.test_automem_errors import PUBLIC, make

SETTINGS = PineconeSettings(api_key=SecretStr("pcsk_hunter2"), host="https://memory.svc.test")


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_error_of_the_transport_is_mapped(kind: type[Exception]) -> None:
    original = make(kind)
    with pytest.raises(MemoryServiceError) as raised, backend_errors(SETTINGS):
        raise original
    assert raised.value.__cause__ is original
    assert "secret" not in str(raised.value) + raised.value.detail + raised.value.reason


def error(code: int | None, message: str, status: int, **headers: str) -> httpx.Response:
    body = json.dumps({"code": code, "message": message, "details": []})
    return httpx.Response(status, text=body, headers=headers)


ANSWERS: list[tuple[httpx.Response, type[MemoryServiceError], bool | float]] = [
    (httpx.Response(401, text="Invalid API Key secret"), ConfigurationError, False),
    (httpx.Response(403, text="Forbidden: secret"), ConfigurationError, False),
    (
        httpx.Response(403, text="Request failed. You've reached max namespaces: secret"),
        DriverError,
        False,
    ),
    (
        httpx.Response(403, text='{"error":{"code":"QUOTA_EXCEEDED","message":"quota"}}'),
        DriverError,
        False,
    ),
    (error(None, "payment required: secret", 402), DriverError, False),
    (httpx.Response(404, text="<html>secret</html>"), ConfigurationError, False),
    (error(5, "Namespace not found secret", 404), DriverError, False),
    (error(3, "This index has a document schema, so writes", 400), ConfigurationError, False),
    (
        error(3, "Vector dimension 3 does not match the dimension of the index 2", 400),
        ConfigurationError,
        False,
    ),
    (error(3, "metadata size is 114146 bytes secret", 400), DriverError, False),
    (httpx.Response(413, text="secret"), DriverError, False),
    (error(6, "secret", 409), DriverError, False),
    (error(3, "secret", 422), DriverError, False),
    (httpx.Response(301, headers={"location": "http://secret"}), DriverError, False),
    (httpx.Response(408), DriverTimeout, True),
    (error(9, "secret", 412), DriverUnavailable, False),
    (error(8, "secret", 429), DriverUnavailable, True),
    (error(8, "secret", 429, **{"retry-after": "2"}), DriverUnavailable, 2.0),
    (error(8, "secret", 429, **{"retry-after": "3600"}), DriverUnavailable, False),
    (error(8, "secret", 429, **{"retry-after": "Wed, 21 Oct"}), DriverUnavailable, True),
    (error(13, "secret", 500), DriverUnavailable, True),
    (httpx.Response(502, text="<html>secret"), DriverUnavailable, True),
    (httpx.Response(503, text="<html>secret"), DriverUnavailable, True),
    (httpx.Response(504), DriverTimeout, True),
]


@pytest.mark.parametrize(
    ("answer", "expected", "again"),
    ANSWERS,
    ids=[f"{n}-{a[0].status_code}" for n, a in enumerate(ANSWERS)],
)
def test_an_answer_means_what_its_status_and_text_say(
    answer: httpx.Response, expected: type[MemoryServiceError], again: bool | float
) -> None:
    with pytest.raises(MemoryServiceError) as raised, backend_errors(SETTINGS):
        raise Answered(answer)
    assert type(raised.value) is expected
    assert pause(raised.value) == again
    told = str(raised.value) + raised.value.detail + raised.value.reason
    assert "secret" not in told
    assert "hunter2" not in told


def test_our_own_errors_and_bugs_pass_unchanged() -> None:
    for one in (InvalidInput("x"), KeyError("x")):
        with pytest.raises(type(one)) as raised, backend_errors(SETTINGS):
            raise one
        assert raised.value is one


def test_the_log_knows_pinecone_s_id_of_the_request() -> None:
    answer = httpx.Response(500, headers={"x-pinecone-request-id": "4711"})
    with pytest.raises(DriverUnavailable) as raised, backend_errors(SETTINGS):
        raise Answered(answer)
    assert "4711" in raised.value.reason


BROKEN: list[tuple[Response, type[MemoryServiceError]]] = [
    (HTMLResponse("<h1>hello</h1>"), DriverError),
    (JSONResponse({}), DriverError),
    (JSONResponse([]), DriverError),
    (PlainTextResponse("Invalid API Key", 401), ConfigurationError),
    (HTMLResponse("<h1>414</h1>", 414), DriverError),
]


@pytest.mark.parametrize(("answer", "expected"), BROKEN)
@pytest.mark.parametrize("path", ["/query", "/vectors/fetch", "/vectors/upsert"])
async def test_an_answer_that_is_none_is_an_error_and_never_nothing(
    pinecone: PineconeDriver,
    index: FakePinecone,
    path: str,
    answer: Response,
    expected: type[MemoryServiceError],
) -> None:
    memory = await pinecone.store("ada", "a kettle")
    index.fail(path, answer, 3)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "/query": lambda: pinecone.recall("ada", query="kettle"),
        "/vectors/fetch": lambda: pinecone.get(memory.memory_id, "ada"),
        "/vectors/upsert": lambda: pinecone.store("ada", "a pan"),
    }
    with pytest.raises(MemoryServiceError) as raised:
        await calls[path]()
    assert type(raised.value) is expected
    index.faults.clear()
    assert await pinecone.recall("ada") == [memory]


async def test_the_plan_s_last_namespace_is_named_as_the_limit(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone()
    await driver.store("ada", "a kettle")
    index.most_namespaces = len(index.spaces)
    many = [NewMemory(user_id=f"user {n}", content="a kettle") for n in range(20)]
    with pytest.raises(DriverError) as raised:
        await driver.store_many(many)
    assert "namespaces" in raised.value.reason
    assert len(await driver.recall("ada")) == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"api_key": None}, "PINECONE_API_KEY"),
        ({"host": None}, "PINECONE_HOST"),
    ],
)
def test_without_a_key_or_a_host_the_setting_is_named(given: dict[str, Any], said: str) -> None:
    settings = SETTINGS.model_copy(update=given)
    with pytest.raises(ConfigurationError, match=said):
        PineconeClient(settings)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("memory-a1.svc.x.pinecone.io", "https://memory-a1.svc.x.pinecone.io"),
        ("https://memory-a1.svc.x.pinecone.io/", "https://memory-a1.svc.x.pinecone.io"),
        ("http://127.0.0.1:5080", "http://127.0.0.1:5080"),
        ("localhost:5080", "https://localhost:5080"),
    ],
)
def test_a_host_is_reached_by_https_unless_it_says_otherwise(host: str, url: str) -> None:
    assert PineconeSettings(host=host).host == url


@pytest.mark.parametrize(
    "host", ["", "a b", "https://h/indexes/a", "ftp://h", "u:p@h", "h?x=1", "//"]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="host of an index"):
        PineconeSettings(host=host)


def test_the_transport_s_lost_connections_are_uncertain() -> None:
    with pytest.raises(ConnectionLost) as raised, backend_errors(SETTINGS):
        raise httpx.ReadError("secret")
    assert raised.value.uncertain
    assert inspect.isclass(type(raised.value))
