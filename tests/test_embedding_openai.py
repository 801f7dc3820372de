"""An endpoint like OpenAI's, on a real socket, with all that real ones do."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from app.embedding import Embedder, build_embedder
from app.embedding.openai import WINDOW_BYTES
from app.errors import (
    ConfigurationError,
    DriverError,
    DriverTimeout,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    MemoryServiceError,
)
from app.settings import EmbeddingSettings

KEY = "sk-secret"


def vector(text: str) -> list[float]:
    """What the endpoint's model makes of a text; not of length one."""
    return [float(len(text)), 3.0, -1.0]


class Endpoint:
    """Answers /v1/embeddings; `traps` are taken in turn in place of the answer."""

    def __init__(self) -> None:
        self.traps: list[tuple[int, dict[str, str], Any] | float | None] = []
        self.closes = False
        """Whether every answer ends its connection."""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.change: Callable[[list[dict[str, Any]]], Any] = lambda data: data

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
                body = json.loads(await reader.readexactly(int(fields["content-length"])))
                self.bodies.append(body)
                self.keys.append(fields.get("authorization", ""))
                trap = self.traps.pop(0) if self.traps else 0.0
                if trap is None:
                    break  # the socket is cut
                status, content = 200, None
                headers: dict[str, str] = {}
                if isinstance(trap, float):
                    await asyncio.sleep(trap)
                    items = [
                        {"object": "embedding", "index": n, "embedding": vector(text)}
                        for n, text in enumerate(body["input"])
                    ]
                    content = {"object": "list", "data": self.change(items)}
                else:
                    status, headers, content = trap
                raw = content if isinstance(content, bytes) else json.dumps(content).encode()
                lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(raw)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                lines += ["Connection: close"] * self.closes
                writer.write("\r\n".join([*lines, "", ""]).encode() + raw)
                await writer.drain()
                if self.closes:
                    break
        writer.close()


@pytest.fixture
async def endpoint() -> Endpoint:
    return Endpoint()


@pytest.fixture
async def url(endpoint: Endpoint) -> AsyncIterator[str]:
    server = await asyncio.start_server(endpoint.answer, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    server.close()


def settings(url: str, **more: Any) -> EmbeddingSettings:
    """Of that endpoint, for a model with a name of its own."""
    return EmbeddingSettings(
        model="m3", url=url, api_key=SecretStr(KEY), **{"timeout": 5.0, **more}
    )


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of four texts, and no vectors of queries that are kept."""
    monkeypatch.setattr("app.embedding.openai.BATCH", 4)
    monkeypatch.setattr("app.embedding.query_cache.QUERIES", 0)


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call is repeated."""
    monkeypatch.setattr("app.embedding.openai.REPEATS", 0)


@pytest.fixture
async def embedder(url: str, endpoint: Endpoint) -> AsyncIterator[Embedder]:
    embedder = build_embedder(settings(url))
    await embedder.open()
    endpoint.bodies.clear()
    yield embedder
    await embedder.close()


def expected(texts: list[str]) -> Any:
    """The vectors, of length one."""
    vectors = np.array([vector(text) for text in texts])
    return pytest.approx(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), abs=1e-6)


async def test_vectors_come_in_batches_and_in_order(embedder: Embedder, endpoint: Endpoint) -> None:
    texts = ["x" * (n * 7 % 10 + 1) for n in range(10)]
    vectors = await embedder.embed(texts)
    assert vectors.dtype == np.float32
    assert vectors == expected(texts)
    assert sorted(len(body["input"]) for body in endpoint.bodies) == [2, 4, 4]
    assert {body["model"] for body in endpoint.bodies} == {"m3"}
    assert set(endpoint.keys) == {f"bearer {KEY}"}
    assert (embedder.name, embedder.dimension, embedder.max_tokens) == ("m3", 3, None)
    assert (await embedder.embed([])).shape == (0, 3)
    assert np.array([await embedder.embed_query("abc")]) == expected(["abc"])


@pytest.mark.usefixtures("once")
async def test_bursts_and_cancelled_callers_lose_no_connection(
    url: str, endpoint: Endpoint
) -> None:
    embedder = build_embedder(settings(url, timeout=1.0))
    await embedder.open()
    endpoint.closes = True
    for turn in range(3):
        endpoint.traps = [0.5] * 400
        asked = [asyncio.create_task(embedder.embed_query(f"{turn} {n}")) for n in range(400)]
        await asyncio.sleep(0.3)
        for task in asked[: 100 * turn]:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    endpoint.traps = []
    for n in range(3):
        answers = await asyncio.gather(*(embedder.embed_query(f"{n} {m}") for m in range(60)))
        assert len(answers) == 60
    await embedder.close()


@pytest.mark.usefixtures("once")
async def test_queries_that_find_no_free_call_in_time_are_told_to_come_again(
    url: str, endpoint: Endpoint
) -> None:
    embedder = build_embedder(settings(url, timeout=2.0))
    await embedder.open()
    endpoint.traps = [30.0] * 200
    first = [asyncio.create_task(embedder.embed_query(f"first {n}")) for n in range(64)]
    await asyncio.sleep(0.5)
    others = [asyncio.create_task(embedder.embed_query(f"other {n}")) for n in range(65)]
    answers = await asyncio.gather(*first, *others, return_exceptions=True)
    assert {type(answer) for answer in answers} == {DriverTimeout, EmbeddingQueueFull}
    await embedder.close()


LONG = "".join(f"Shelf {n} has a copper kettle of Ada's. " for n in range(200))
"""Of four windows or more."""


async def test_a_long_text_is_cut_by_its_bytes(embedder: Embedder, endpoint: Endpoint) -> None:
    for text in (LONG, "Ада поставила чайник. " * 300, "銅のやかん" * 1_000, "🫖" * 2_000):
        windows = await embedder.windows(text)
        assert len(windows) >= 4
        assert max(len(window.encode()) for window in windows) <= WINDOW_BYTES
        assert (text[:20], text[-20:]) == (windows[0][:20], windows[-1][-20:])
    assert endpoint.bodies == []


async def test_a_text_of_as_many_bytes_as_a_window_is_not_cut(embedder: Embedder) -> None:
    for text in ("x" * WINDOW_BYTES, "é" * (WINDOW_BYTES // 2), "🫖" * (WINDOW_BYTES // 4)):
        assert await embedder.windows(text) == [text]
        assert len(await embedder.windows(text + "é")) == 2


async def test_a_name_goes_before_every_window(embedder: Embedder) -> None:
    windows = await embedder.windows("Ada: " + LONG, "Ada: ")
    assert len(windows) >= 4
    assert all(window.startswith("Ada: ") for window in windows)
    assert max(len(window.encode()) for window in windows) <= WINDOW_BYTES


async def test_a_long_question_asked_again_is_not_embedded_again(
    url: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedding.query_cache.QUERIES", 100)
    embedder = build_embedder(settings(url))
    windows = await embedder.windows(LONG)
    vectors = await embedder.embed_question(LONG)
    assert vectors == expected(windows)
    asked = len(endpoint.bodies)
    assert (await embedder.embed_question(LONG)).tolist() == vectors.tolist()
    assert np.array([await embedder.embed_query(windows[-1])]).tolist() == [vectors[-1].tolist()]
    assert len(endpoint.bodies) == asked
    await embedder.close()


@pytest.mark.usefixtures("once")
async def test_a_long_question_fails_as_a_query_does(
    embedder: Embedder, endpoint: Endpoint
) -> None:
    endpoint.traps = [0.0, 0.0, (503, {}, b"")]
    with pytest.raises(EmbeddingUnavailable):
        await embedder.embed_question(LONG)


def encoded(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The vectors as base64 of float32."""
    for item in items:
        item["embedding"] = base64.b64encode(np.array(item["embedding"], "<f4").tobytes()).decode()
    return items


ODD: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "out of order": lambda items: items[::-1],
    "base64": encoded,
    "without indexes": lambda items: [{"embedding": item["embedding"]} for item in items],
}


@pytest.mark.parametrize("odd", ODD)
async def test_every_form_of_an_answer_is_read(
    embedder: Embedder, endpoint: Endpoint, odd: str
) -> None:
    endpoint.change = ODD[odd]
    assert await embedder.embed(["a", "bb", "ccc"]) == expected(["a", "bb", "ccc"])


PASSING: dict[str, list[Any]] = {
    "429 with Retry-After": [(429, {"Retry-After": "0.2"}, {})],
    "429 without": [(429, {}, {})],
    "500 and 503": [(500, {}, b"<html>"), (503, {}, b"")],
    "cut socket": [None],
}


@pytest.mark.parametrize("passing", PASSING)
async def test_what_passes_is_tried_again(
    embedder: Embedder, endpoint: Endpoint, passing: str
) -> None:
    endpoint.traps = list(PASSING[passing])
    assert await embedder.embed(["a"]) == expected(["a"])
    assert len(endpoint.bodies) == len(PASSING[passing]) + 1


FAILING: dict[str, tuple[Any, type[MemoryServiceError], int]] = {
    "500 every time": ((500, {}, b""), EmbeddingUnavailable, 3),
    "429 every time": ((429, {}, b""), EmbeddingUnavailable, 3),
    "429 with a long wait": ((429, {"Retry-After": "3600"}, b""), EmbeddingUnavailable, 1),
    "cut every time": (None, EmbeddingUnavailable, 3),
    "401": ((401, {}, {"error": KEY}), ConfigurationError, 1),
    "404": ((404, {}, {}), ConfigurationError, 1),
    "400": ((400, {}, {"error": "too long"}), DriverError, 1),
    "no JSON": ((200, {}, b"<html>"), DriverError, 1),
    "no object": ((200, {}, []), DriverError, 1),
    "no data": ((200, {}, {"data": None}), DriverError, 1),
    "too few": ((200, {}, {"data": []}), DriverError, 1),
    "wrong index": ((200, {}, {"data": [{"index": 1, "embedding": [1]}]}), DriverError, 1),
    "text": ((200, {}, {"data": [{"index": 0, "embedding": ["a"]}]}), DriverError, 1),
    "not base64": ((200, {}, {"data": [{"index": 0, "embedding": "?"}]}), DriverError, 1),
    "other dimension": ((200, {}, {"data": [{"index": 0, "embedding": [1, 2]}]}), DriverError, 1),
    "NaN": ((200, {}, b'{"data": [{"index": 0, "embedding": [NaN, 1, 1]}]}'), DriverError, 1),
    "zeros": ((200, {}, {"data": [{"index": 0, "embedding": [0, 0, 0]}]}), DriverError, 1),
}


@pytest.mark.parametrize("failing", FAILING)
async def test_every_failure_is_one_of_ours_without_the_key(
    embedder: Embedder, endpoint: Endpoint, failing: str
) -> None:
    trap, kind, tries = FAILING[failing]
    endpoint.traps = [trap] * 5
    with pytest.raises(MemoryServiceError) as caught:
        await embedder.embed(["a"])
    assert type(caught.value) is kind
    assert KEY not in f"{caught.value} {caught.value.reason} {caught.value.detail}"
    assert len(endpoint.bodies) == tries
    if kind is EmbeddingUnavailable:
        assert caught.value.headers["Retry-After"]


@pytest.mark.usefixtures("once")
async def test_a_slow_answer_is_not_waited_for(url: str, endpoint: Endpoint) -> None:
    embedder = build_embedder(settings(url, timeout=0.2))
    endpoint.traps = [20.0]
    with pytest.raises(DriverTimeout):
        await embedder.open()
    await embedder.open()
    await embedder.close()


@pytest.mark.usefixtures("once")
async def test_nobody_listening_is_unavailable() -> None:
    embedder = build_embedder(settings("http://127.0.0.1:1/v1"))
    with pytest.raises(EmbeddingUnavailable):
        await embedder.open()
    await embedder.close()


async def test_a_full_queue_refuses(
    url: str, endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedding.openai.QUEUE", 1)
    embedder = build_embedder(settings(url))
    await embedder.open()
    endpoint.traps = [0.2]
    running = asyncio.create_task(embedder.embed(["a"]))
    await asyncio.sleep(0.05)
    with pytest.raises(EmbeddingQueueFull):
        await embedder.embed(["b"])
    await running
    await embedder.close()


@pytest.mark.parametrize("wrong", ["h:1/v1", "http://u:p@h/v1"])
def test_an_endpoint_is_a_url_without_a_user(wrong: str) -> None:
    with pytest.raises(ValueError, match="url"):
        EmbeddingSettings(url=wrong)
