"""Every error that httpx or Weaviate can give leaves the driver as one of ours, without a word."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from app.drivers.weaviate import WeaviateDriver
from app.drivers.weaviate.errors import STATUSES, TEXTS, Answered, backend_errors, did_nothing
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    InvalidInput,
    MemoryServiceError,
    NotPermitted,
    PoolExhausted,
)
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server, weaviate
from tests.drivers.weaviate_fake import FakeWeaviate

__all__ = ["open_weaviate", "server", "weaviate"]

PUBLIC: list[type[Exception]] = [
    kind
    for name in httpx.__all__
    if inspect.isclass(kind := getattr(httpx, name)) and issubclass(kind, Exception)
]
_BARE = {
    httpx.StreamConsumed,
    httpx.StreamClosed,
    httpx.ResponseNotRead,
    httpx.RequestNotRead,
}


def made(kind: type[Exception]) -> Exception:
    if kind is httpx.HTTPStatusError:
        request = httpx.Request("GET", "http://weaviate.internal/secret")
        return httpx.HTTPStatusError("secret", request=request, response=httpx.Response(500))
    return kind() if kind in _BARE else kind("secret")


def test_there_is_something_to_map() -> None:
    assert len(PUBLIC) > 25


@pytest.mark.parametrize("kind", PUBLIC, ids=lambda kind: kind.__name__)
def test_every_public_error_is_mapped(kind: type[Exception]) -> None:
    original = made(kind)
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise original
    assert raised.value.__cause__ is original
    assert "secret" not in f"{raised.value} {raised.value.detail} {raised.value.reason}"


def test_our_own_errors_and_bugs_pass_unchanged() -> None:
    for error in (InvalidInput("x"), KeyError("x")):
        with pytest.raises(type(error)) as raised, backend_errors():
            raise error
        assert raised.value is error


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        *((status, "secret", kind) for status, kind in STATUSES.items()),
        (400, "secret", DriverError),
        (413, "secret", DriverError),
        (422, "secret", DriverError),
        (500, "secret", DriverError),
        *((500, f"secret: {text} secret", kind) for text, kind in TEXTS),
        (422, "secret: store is READ-ONLY due to: disk", NotPermitted),
        (503, "secret: read-only", DriverUnavailable),
    ],
)
def test_an_answer_means_what_its_status_or_its_text_says(
    status: int, said: str, expected: type[MemoryServiceError]
) -> None:
    with pytest.raises(MemoryServiceError) as raised, backend_errors("A_KEY", "A_URL"):
        raise Answered(status, said)
    assert type(raised.value) is expected
    assert "secret" not in f"{raised.value} {raised.value.detail} {raised.value.reason}"
    if expected is ConfigurationError:
        assert "A_KEY" in str(raised.value) or "A_URL" in str(raised.value)


@pytest.mark.parametrize(
    ("error", "nothing"),
    [
        (Answered(503), True),
        (Answered(429), True),
        (Answered(500), False),
        (Answered(502), False),
        (httpx.ConnectError("x"), True),
        (httpx.ReadError("x"), False),
        (httpx.ReadTimeout("x"), False),
    ],
    ids=lambda value: f"{value!r}" if isinstance(value, Exception) else "",
)
def test_it_is_known_where_nothing_can_have_happened(error: Exception, nothing: bool) -> None:
    with pytest.raises(MemoryServiceError) as raised, backend_errors():
        raise error
    assert did_nothing(raised.value) is nothing
    assert not (nothing and raised.value.uncertain)


def problem(status: int, code: str = "unknown") -> Response:
    return JSONResponse({"code": code, "message": "secret"}, status)


ANSWERS: list[tuple[Response, type[MemoryServiceError]]] = [
    (PlainTextResponse("secret", 401), ConfigurationError),
    (problem(403, "permission_denied"), ConfigurationError),
    (problem(404), ConfigurationError),
    (problem(429, "resource_exhausted"), DriverUnavailable),
    (problem(500), DriverError),
    (HTMLResponse("<h1>secret</h1>", 502), ConnectionLost),
    (problem(503, "unavailable"), DriverUnavailable),
    (problem(504, "deadline_exceeded"), DriverTimeout),
    (Response(b"", 200), ConnectionLost),
    (HTMLResponse("<h1>secret</h1>", 200), ConnectionLost),
    (JSONResponse([1], 200), ConnectionLost),
    (Response(status_code=301, headers={"Location": "http://elsewhere/"}), DriverError),
]


@pytest.mark.parametrize(("answer", "expected"), ANSWERS)
async def test_every_verb_has_an_error_of_ours(
    weaviate: WeaviateDriver,
    server: FakeWeaviate,
    answer: Response,
    expected: type[MemoryServiceError],
) -> None:
    stored = await weaviate.store("ada", "kettle")

    async def answered(call: str) -> Response | None:
        return None if call.startswith("GET") else answer

    server.before = answered
    verbs: list[Callable[[], Awaitable[Any]]] = [
        lambda: weaviate.store("ada", "secret"),
        lambda: weaviate.recall("ada"),
        lambda: weaviate.recall("ada", query="secret"),
        lambda: weaviate.delete(stored.memory_id, "ada"),
        lambda: weaviate.get(stored.memory_id, "ada"),
        lambda: weaviate.update(stored.memory_id, "ada", {"content": "secret"}),
        lambda: weaviate.delete_user("ada"),
        lambda: weaviate.list_users(),
        lambda: weaviate.recall_global_knowledge("secret"),
        lambda: weaviate.put_document("secret", category="c", pieces=["secret"]),
    ]
    for verb in verbs:
        with pytest.raises(MemoryServiceError) as raised:
            await verb()
        assert isinstance(raised.value, (expected, DriverError))
        assert "secret" not in f"{raised.value} {raised.value.detail} {raised.value.reason}"
    with pytest.raises(expected):
        await weaviate.recall("ada")


@pytest.mark.parametrize(
    "answer",
    [
        {"results": [{"properties": {}}]},
        {"results": [7]},
        {"results": [{"metadata": {"id": "x", "distance": "far", "distancePresent": True}}]},
        {"results": [{"metadata": {"id": "x"}, "properties": {"nonRefProps": {"fields": [1]}}}]},
        {"results": 7},
    ],
)
async def test_an_answer_of_another_form_is_no_answer(
    weaviate: WeaviateDriver, server: FakeWeaviate, answer: dict[str, Any]
) -> None:
    async def answered(call: str) -> Response | None:
        return JSONResponse(answer) if call == "Search" else None

    server.before = answered
    for query in (None, "kettle"):
        with pytest.raises(DriverError):
            await weaviate.recall("ada", query=query)


async def test_a_count_of_another_form_is_no_count(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    stored = await weaviate.store("ada", "kettle")

    async def answered(call: str) -> Response | None:
        if call == "Aggregate":
            return JSONResponse({"singleResult": {"objectsCount": "many"}})
        if call == "BatchDelete":
            return JSONResponse({"matches": "many"})
        return None

    server.before = answered
    with pytest.raises(DriverError):
        await weaviate.list_users()
    with pytest.raises(DriverError):
        await weaviate.delete(stored.memory_id, "ada")


async def test_a_wrong_key_ends_the_start_and_names_the_setting(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    for key in (None, "another-key"):
        with pytest.raises(ConfigurationError, match="WEAVIATE_API_KEY") as raised:
            await open_weaviate(api_key=key)
        assert "another-key" not in str(raised.value)
    server.key = None
    with pytest.raises(ConfigurationError, match="WEAVIATE_API_KEY"):
        await open_weaviate()  # a key where Weaviate wants none
    await open_weaviate(api_key=None)


async def test_what_is_no_weaviate_or_has_no_grpc_web_is_told(
    open_weaviate: OpenWeaviate, server: FakeWeaviate
) -> None:
    server.version = "7"
    with pytest.raises(ConfigurationError, match="WEAVIATE_URL"):
        await open_weaviate()
    server.version = "1.39.7"
    driver = await open_weaviate()
    server.has_grpc_web = False
    with pytest.raises(ConfigurationError, match="grpc_web_enabled"):
        await driver.recall("ada")


async def test_a_weaviate_in_maintenance_is_unavailable(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    server.is_in_maintenance = True
    with pytest.raises(DriverUnavailable) as raised:
        await weaviate.store("ada", "kettle")
    assert not raised.value.uncertain
    server.is_in_maintenance = False
    await weaviate.store("ada", "kettle")


async def test_a_weaviate_without_memory_takes_no_write_and_answers(
    weaviate: WeaviateDriver, server: FakeWeaviate
) -> None:
    stored = await weaviate.store("ada", "kettle")
    server.has_memory = False
    with pytest.raises(NotPermitted):
        await weaviate.store("ada", "another")
    assert await weaviate.recall("ada") == [stored]


def test_every_error_has_a_kind_of_ours() -> None:
    kinds = {kind for _, kind in TEXTS} | set(STATUSES.values())
    assert kinds <= {
        ConfigurationError,
        ConnectionLost,
        DatabaseChanged,
        DriverTimeout,
        DriverUnavailable,
        NotPermitted,
        PoolExhausted,
    }
