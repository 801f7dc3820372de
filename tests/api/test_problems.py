"""Every error has one shape, the request's id, and nothing that was not meant for the caller."""

import uuid
from collections.abc import Sequence
from typing import Any

import httpx
import pytest

from app import errors
from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.checks import Metadata
from app.core.memory.records import Knowledge, Memory
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import MemoryServiceError
from tests.api.serving import JSON, Api, read_problem, serving

SECRET = "postgresql://ada:hunter2@db.internal:5432/memory"  # noqa: S105
MEMORY = {"user_id": "ada", "content": "The kettle is copper."}
SOME_ID = "01a2041e-3795-7337-a045-ffd936bf1f5e"


class FailingDriver(BaseMemoryDriver):
    """Only the six verbs, and each of them fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        raise self._error

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        raise self._error

    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> Memory:
        raise self._error

    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Knowledge:
        raise self._error

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        raise self._error

    async def health_check(self) -> DriverHealth:
        raise self._error


async def answer_to(embedder: Embedder, error: Exception) -> httpx.Response:
    """What a caller gets when a driver raises `error`."""
    async with serving(embedder, lambda _: FailingDriver(error), raising=False) as api:
        return await api.post("/v1/memories", MEMORY)


def kinds(kind: type[MemoryServiceError]) -> list[type[MemoryServiceError]]:
    """The error and all that derive from it in the service."""
    below = [k for k in kind.__subclasses__() if k.__module__ == errors.__name__]
    return [kind, *(deeper for k in below for deeper in kinds(k))]


@pytest.mark.parametrize("kind", kinds(MemoryServiceError), ids=lambda kind: kind.__name__)
async def test_every_error_of_a_driver_is_a_problem_with_its_status_and_code(
    embedder: Embedder, kind: type[MemoryServiceError]
) -> None:
    response = await answer_to(embedder, kind())
    problem = read_problem(response, kind.status, kind.code)
    assert kind().detail in problem["detail"]
    for name, value in kind.headers.items():
        assert response.headers[name] == value


@pytest.mark.parametrize("kind", kinds(MemoryServiceError), ids=lambda kind: kind.__name__)
def test_every_error_that_may_pass_says_when_to_retry(kind: type[MemoryServiceError]) -> None:
    assert ("Retry-After" in kind.headers) == (kind.status == 503)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError(SECRET),
        OSError(111, SECRET),
        ValueError(SECRET),
        KeyError("hunter2"),
        TimeoutError(SECRET),
        RecursionError(SECRET),
        UnicodeEncodeError("utf-8", SECRET, 0, 1, SECRET),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_unexpected_exception_is_a_500_that_tells_nothing(
    embedder: Embedder, error: Exception
) -> None:
    response = await answer_to(embedder, error)
    read_problem(response, 500, "internal_error")
    for part in ("hunter2", "db.internal", type(error).__name__, "Traceback"):
        assert part not in response.text


async def test_what_only_the_operator_may_know_is_not_told(embedder: Embedder) -> None:
    for error in (
        errors.ConfigurationError(SECRET),
        errors.DriverNotFound(SECRET),
        errors.DriverUnavailable(reason=SECRET),
    ):
        response = await answer_to(embedder, error)
        read_problem(response, 503, error.code)
        assert "hunter2" not in response.text


async def test_a_cause_is_not_told(embedder: Embedder) -> None:
    error = errors.DriverUnavailable()
    error.__cause__ = OSError(SECRET)
    response = await answer_to(embedder, error)
    read_problem(response, 503, "driver_unavailable")
    assert "hunter2" not in response.text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/memories/batch"),
        ("POST", "/v1/memories/recall"),
        ("GET", "/v1/memories?user_id=ada"),
        ("GET", f"/v1/memories/{SOME_ID}?user_id=ada"),
        ("PATCH", f"/v1/memories/{SOME_ID}?user_id=ada"),
        ("DELETE", "/v1/users/ada/memories"),
        ("POST", "/v1/memories/delete"),
        ("POST", "/v1/users/forget"),
        ("GET", "/v1/users"),
        ("POST", "/v1/knowledge/batch"),
        ("GET", "/v1/knowledge"),
        ("PUT", "/v1/knowledge/documents/manual"),
        ("POST", "/v1/knowledge/documents"),
        ("DELETE", "/v1/knowledge/documents/manual"),
        ("POST", "/v1/knowledge/documents/delete"),
        ("GET", f"/v1/knowledge/{SOME_ID}"),
        ("PATCH", f"/v1/knowledge/{SOME_ID}"),
        ("DELETE", f"/v1/knowledge/{SOME_ID}"),
    ],
)
async def test_a_capability_that_the_driver_lacks_is_a_501(
    embedder: Embedder, method: str, path: str
) -> None:
    bodies: dict[str, Any] = {
        "/v1/memories/batch": {"memories": [MEMORY]},
        "/v1/memories/recall": {"user_id": "ada", "query": "kettle", "explain": True},
        f"/v1/memories/{SOME_ID}?user_id=ada": {"content": "x"},
        f"/v1/knowledge/{SOME_ID}": {"content": "x"},
        "/v1/memories/delete": {"user_id": "ada", "conversation_id": "kitchen"},
        "/v1/users/forget": {"user_id": "ada"},
        "/v1/knowledge/documents/manual": {"category": "y", "text": "x"},
        "/v1/knowledge/documents": {"doc_id": "manual", "category": "y", "text": "x"},
        "/v1/knowledge/documents/delete": {"doc_id": "manual"},
        "/v1/knowledge/batch": {"knowledge": [{"content": "x", "category": "y"}]},
    }
    async with serving(embedder, lambda _: FailingDriver(RuntimeError())) as api:
        response = await api.client.request(method, path, json=bodies.get(path))
    assert "inmemory" in read_problem(response, 501, "capability_missing")["detail"]


class UnavailableDriver(InMemoryDriver):
    async def health_check(self) -> DriverHealth:
        return DriverHealth(driver=self.name, status="unavailable", detail="it is away")


async def test_an_unavailable_driver_is_alive_but_not_ready(embedder: Embedder) -> None:
    async with serving(
        embedder, lambda context: UnavailableDriver(embedder, context.settings.limits)
    ) as api:
        ready = await api.client.get("/health/ready")
        assert read_problem(ready, 503, "driver_unavailable")["detail"] == "it is away"
        assert "Retry-After" in ready.headers
        assert (await api.client.get("/health/live")).json() == {"status": "ok"}
        health = await api.client.get("/health")
        assert health.status_code == 503
        assert health.json()["driver"]["status"] == "unavailable"


@pytest.mark.parametrize("path", ["/", "/nope", "/v1", "/v1/memory", "/v2/memories"])
async def test_an_unknown_path_is_a_404(api: Api, path: str) -> None:
    read_problem(await api.client.get(path), 404, "no_such_path")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/memories", "GET, HEAD, POST"),
        ("DELETE", "/v1/memories", "GET, HEAD, POST"),
        ("OPTIONS", "/v1/memories", "GET, HEAD, POST"),
        ("PUT", f"/v1/memories/{SOME_ID}", "DELETE, GET, HEAD, PATCH"),
        ("POST", f"/v1/knowledge/{SOME_ID}", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/users/ada/memories", "DELETE"),
        ("HEAD", "/v1/users/ada/memories", "DELETE"),
        ("GET", "/v1/users/forget", "POST"),
        ("POST", "/v1/users", "GET, HEAD"),
        ("PUT", "/v1/knowledge", "GET, HEAD, POST"),
        ("GET", "/v1/knowledge/documents/manual", "DELETE, PUT"),
        ("PUT", "/v1/knowledge/documents", "DELETE, GET, HEAD, PATCH, POST"),
        ("POST", "/health/live", "GET, HEAD"),
        ("BREW", "/health", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
        ("DELETE", "/openapi.json", "GET, HEAD"),
        ("POST", "/static-offline-docs/favicon.png", "GET, HEAD"),
    ],
)
async def test_a_405_tells_every_method_of_the_path(
    api: Api, method: str, path: str, allowed: str
) -> None:
    response = await api.client.request(method, path)
    assert response.status_code == 405
    if method != "HEAD":
        read_problem(response, 405, "method_not_allowed")
    assert response.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/v1/memories?user_id=ada", "/v1/memories", "/nope", "/health/live"]
)
@pytest.mark.parametrize("given", ["a", "A.b_c-9", "0" * 64, SOME_ID])
async def test_a_plain_request_id_is_kept(api: Api, path: str, given: str) -> None:
    response = await api.client.get(path, headers={"X-Request-ID": given})
    assert response.headers.get_list("X-Request-ID") == [given]


@pytest.mark.parametrize(
    "given",
    [
        b"",
        b"a b",
        b"0" * 65,
        b"0" * 10_000,
        b"a\r\nSet-Cookie: x=1",
        b"a\nb",
        b"<script>",
        b"\xff",
        "é".encode(),
        b"\x00",
        b'"',
        b"%0d%0a",
        b"../x",
    ],
)
async def test_a_hostile_request_id_is_replaced(api: Api, given: bytes) -> None:
    response = await api.client.get("/nope", headers=[(b"X-Request-ID", given)])
    problem = read_problem(response, 404, "no_such_path")
    assert uuid.UUID(problem["request_id"]).version == 7
    assert "set-cookie" not in response.headers


async def test_every_request_has_an_id_of_its_own(api: Api) -> None:
    ids = {(await api.client.get("/health/live")).headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20


async def test_a_500_keeps_the_request_id_too(embedder: Embedder) -> None:
    async with serving(embedder, lambda _: FailingDriver(KeyError()), raising=False) as api:
        response = await api.client.post(
            "/v1/memories", json=MEMORY, headers={**JSON, "X-Request-ID": "mine"}
        )
    assert read_problem(response, 500, "internal_error")["request_id"] == "mine"


async def test_the_log_has_the_reason_of_a_500_under_its_request_id(
    embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    response = await answer_to(embedder, ZeroDivisionError("the reason"))
    assert [record.name for record in caplog.records] == ["app.api.problems"]
    event = caplog.records[0].msg
    assert isinstance(event, dict)
    assert event["request_id"] == response.json()["request_id"]
    assert isinstance(event["exc_info"], ZeroDivisionError)


async def test_no_log_holds_what_was_stored_or_who_asked(
    embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "app")
    async with serving(embedder, api_keys="the-key") as api:
        headers = {"Authorization": "Bearer the-key"}
        body = {"user_id": "the-user", "content": "the-content", "tags": ["the-tag"]}
        await api.client.post("/v1/memories", json=body, headers=headers)
        await api.client.post("/v1/memories", json={**body, "the-field": 1}, headers=headers)
        await api.client.get("/v1/memories?user_id=the-user", headers=headers)
        await api.client.delete("/v1/users/the-user/memories", headers=headers)
    logged = " ".join(str(record.msg) for record in caplog.records)
    assert "/v1/users/{user_id}/memories" in logged
    assert "the-" not in logged
