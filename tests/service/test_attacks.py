"""What somebody without a key may cost: memory, the time of others, and connections."""

import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from tests.service.service import Service

MIB = 1 << 20
KEY = "the-key-of-this-test"
SECONDS = 5
WORST_LIVE_SECONDS = 2.0
"""Others use the machine; what is tested for takes 4 to 18 s."""


@pytest.fixture(scope="module")
def target() -> Iterator[Service]:
    with Service({"MEMORY_DRIVER": "inmemory"}, KEY) as service:
        service.store("warm", "This loads the model.")
        yield service


@contextmanager
def watched(service: Service, megabytes: int) -> Iterator[None]:
    """Fails where the service grows by more than `megabytes`, or lets /health/live wait."""
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss
    sizes, waits, ended = [before], [0.0], threading.Event()

    def watch() -> None:
        with service.client() as client:
            while not ended.is_set():
                started = time.monotonic()
                assert client.get("/health/live").status_code == 200
                waits.append(time.monotonic() - started)
                sizes.append(process.memory_info().rss)
                ended.wait(0.02)

    with ThreadPoolExecutor(1) as threads:
        watching = threads.submit(watch)
        try:
            yield
        finally:
            ended.set()
        watching.result()
    print(f"+{(max(sizes) - before) / MIB:.0f} MiB, {max(waits) * 1000:.0f} ms")  # noqa: T201
    assert max(sizes) - before < megabytes * MIB
    assert max(waits) < WORST_LIVE_SECONDS


def connect(service: Service) -> socket.socket:
    place = urlsplit(service.url)
    return socket.create_connection((str(place.hostname), place.port or 0), timeout=10)


def head(*headers: str) -> bytes:
    lines = ["POST /v1/memories HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


UPGRADE = ("Connection: Upgrade", "Upgrade: h2c")
KNOWN = (f"Authorization: Bearer {KEY}", "Content-Type: application/json")


def send_without_end(client: socket.socket, piece: bytes) -> None:
    """Return where far more was taken than anything may have."""
    for _ in range(5_000):
        client.sendall(piece)


@pytest.mark.parametrize(
    "headers", [(), UPGRADE, KNOWN, (*KNOWN, *UPGRADE)], ids=["-", "h11", "key", "key, h11"]
)
@pytest.mark.parametrize(
    "start", [b"0\r\n", b"0\r\nX: ", b"1;"], ids=["many", "one long", "chunk extension"]
)
def test_trailers_without_end(target: Service, headers: tuple[str, ...], start: bytes) -> None:
    piece = (b"X: a\r\n" if start == b"0\r\n" else b"a") * 10_000
    with watched(target, 64), connect(target) as client:
        client.sendall(head("Transfer-Encoding: chunked", *headers) + start)
        with pytest.raises(ConnectionError):
            send_without_end(client, piece)


def test_refused_requests_whose_answers_nobody_takes(target: Service) -> None:
    request = head("Content-Type: application/json", "Content-Length: 6000") + b"x" * 6_000
    until = time.monotonic() + SECONDS
    with watched(target, 64), ExitStack() as stack:
        clients = [stack.enter_context(connect(target)) for _ in range(4)]
        for client in clients:
            client.settimeout(0.1)
        while time.monotonic() < until:
            for client in clients:
                with suppress(TimeoutError, ConnectionError):
                    client.sendall(request * 50)


DEAR = {
    "nested 450 deep": b"[" * 450 + b"]" * 450 + b",",
    "empty arrays": b"[],",
    "empty objects": b"{},",
    "numbers": b"1.5,",
    "texts": b'"",',
    "bad members": b'{"a":"b"},',
}


AROUND = {
    "/v1/memories/recall": (
        b'{"user_id":"ada","query":"x","exclude_tags":[',
        (413, "body_too_large"),
    ),
    "/v1/memories/batch": (
        b'{"memories":[{"user_id":"ada","content":"x","metadata":{"a":[',
        (422, "invalid_input"),
    ),
}


@pytest.mark.parametrize("path", AROUND)
@pytest.mark.parametrize("unit", DEAR)
def test_eight_mebibytes_of_tiny_values(target: Service, unit: str, path: str) -> None:
    start, refused = AROUND[path]
    end = b"0]}" if "recall" in path else b"0]}}]}"
    body = start + DEAR[unit] * ((8 * MIB - 100) // len(DEAR[unit])) + end

    def send(_: int) -> tuple[int, str]:
        with target.client() as client:
            answer = client.post(path, content=body, headers={"Content-Type": "application/json"})
            return answer.status_code, answer.json()["code"]

    with watched(target, 512), ThreadPoolExecutor(16) as threads:
        assert set(threads.map(send, range(16))) == {refused}


def test_records_of_many_tiny_values_are_read_while_others_are_answered(target: Service) -> None:
    memory = {"user_id": "tiny", "content": "x", "metadata": {"a": [[]] * 5_000}}
    with target.client() as client, watched(target, 512):
        for _ in range(10):
            client.post("/v1/memories/batch", json={"memories": [memory] * 10}).raise_for_status()
        for asked in ({"query": "x"}, {}):
            recall = {"user_id": "tiny", "top_k": 100, **asked}
            found = client.post("/v1/memories/recall", json=recall).raise_for_status().json()
            assert len(found["memories"]) == 100


def test_a_full_batch_is_stored_while_others_are_answered(target: Service) -> None:
    memory = {
        "user_id": "full",
        "content": "Ada polishes the copper kettle, twice. " * 4,
        "tags": [f"tag {n}" for n in range(64)],
        "metadata": {"numbers": list(range(50)), "of": {"kettle": ["copper"] * 5}},
    }
    with target.client() as client:
        body = json.dumps({"memories": [memory] * 1_000}).encode()
        assert 1 * MIB < len(body) < 8 * MIB
        with watched(target, 1_024):
            stored = client.post(
                "/v1/memories/batch",
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=300,
            )
    assert stored.status_code == 201
    assert len(stored.json()["memories"]) == 1_000


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """What this process starts meanwhile may open 256 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_connections_than_descriptors(few_descriptors: None) -> None:
    with Service({"MEMORY_DRIVER": "inmemory"}, anew=True) as service:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(1_024, hard), hard))
        with ExitStack() as stack:
            for _ in range(400):
                client = stack.enter_context(connect(service))
                with suppress(ConnectionError):
                    client.sendall(b"POST /v1/memories HTTP/1.1\r\nHost: 127")
            refused = httpx.get(f"{service.url}/health/live")
            assert refused.status_code == 503
            assert refused.text == "Too many connections."
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        service.wait_recovered()
        assert service.output.count("too_many_connections") == 1
        assert service.store("ada", "There is room again.")
