"""What a client sees on the wire: bodies that are too large, and what follows an error."""

import json
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

import httpx
import pytest

from app.embedding import Embedder
from app.settings import Limits
from tests.api.serving import build_app, listening, read_problem

LIMIT = 4_096
RECALL = b'{"user_id":"nobody"}'


@pytest.fixture(scope="module")
def port(embedder: Embedder) -> Iterator[int]:
    """The port of an application with a small body limit."""
    with listening(build_app(embedder, limits=Limits(body_bytes=LIMIT))) as port:
        yield port


def connect(port: int) -> socket.socket:
    """A connection that gives up after a while."""
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(path: str, *headers: str, method: str = "POST") -> bytes:
    """The lines before a body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def post(path: str, body: bytes, content_type: str = "application/json") -> bytes:
    """A whole request."""
    return head(path, f"Content-Type: {content_type}", f"Content-Length: {len(body)}") + body


def read(stream: BinaryIO) -> httpx.Response:
    """The next response of a connection."""
    _, status, *_ = stream.readline().split()
    headers: list[tuple[bytes, bytes]] = []
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        headers.append((name.strip(), value.strip()))
    length = int(httpx.Headers(headers).get("content-length", 0))
    return httpx.Response(int(status), headers=headers, content=stream.read(length))


def pieces(count: int, size: int = 1_024) -> Iterable[bytes]:
    """A body that is sent in chunks, without telling its length."""
    for _ in range(count):
        yield b" " * size


@pytest.mark.parametrize("kibibytes", [5, 16, 31])
def test_a_body_over_the_limit_is_refused_with_its_length_told(port: int, kibibytes: int) -> None:
    content = b" " * 1_024 * kibibytes
    response = httpx.post(
        f"http://127.0.0.1:{port}/v1/memories",
        content=content,
        headers={"Content-Type": "application/json"},
    )
    problem = read_problem(response, 413, "body_too_large")
    assert str(LIMIT) in problem["detail"]
    assert response.headers["Connection"] == "close"


@pytest.mark.parametrize("kibibytes", [5, 16, 31])
def test_a_body_over_the_limit_is_refused_when_it_comes_in_chunks(
    port: int, kibibytes: int
) -> None:
    response = httpx.post(
        f"http://127.0.0.1:{port}/v1/memories",
        content=pieces(kibibytes),
        headers={"Content-Type": "application/json"},
    )
    read_problem(response, 413, "body_too_large")


def test_a_body_within_the_limit_may_come_in_chunks(port: int) -> None:
    response = httpx.post(
        f"http://127.0.0.1:{port}/v1/memories/recall",
        content=iter([RECALL[:5], RECALL[5:]]),
        headers={"Content-Type": "application/json"},
    )
    assert response.status_code == 200


def test_a_huge_body_is_not_read_to_its_end(port: int) -> None:
    with connect(port) as connection:
        stream = connection.makefile("rb")
        declared = 10**12
        connection.sendall(
            head("/v1/memories", "Content-Type: application/json", f"Content-Length: {declared}")
        )
        connection.sendall(b" " * LIMIT * 9)
        read_problem(read(stream), 413, "body_too_large")
        assert stream.read() == b""


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (post("/v1/memories", b"{"), 422, "invalid_input"),
        (post("/v1/memories", b"x" * 2_000, "text/plain"), 415, "unsupported_media_type"),
        (post("/nope", b"{}"), 404, "no_such_path"),
        (post("/health/live", b"{}" * 1_000), 405, "method_not_allowed"),
        (post("/v1/memories?a=b", RECALL), 422, "invalid_input"),
    ],
    ids=["422", "415", "404", "405", "422 by the URL"],
)
def test_a_request_right_behind_a_wrong_one_is_answered(
    port: int, request_: bytes, status: int, code: str
) -> None:
    with connect(port) as connection:
        stream = connection.makefile("rb")
        connection.sendall(request_ + post("/v1/memories/recall", RECALL) + request_)
        read_problem(read(stream), status, code)
        assert json.loads(read(stream).content)["memories"] == []
        read_problem(read(stream), status, code)


@pytest.mark.parametrize("sent", [b"", b'{"user_id":'])
def test_a_body_that_does_not_come_is_not_waited_for(
    embedder: Embedder, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.route.BODY_SECONDS", 0.05)
    with (
        listening(build_app(embedder)) as port,
        connect(port) as connection,
    ):
        stream = connection.makefile("rb")
        connection.sendall(
            head("/v1/memories", "Content-Type: application/json", "Content-Length: 100") + sent
        )
        read_problem(read(stream), 408, "body_timeout")
        assert stream.read() == b""


def test_a_client_that_leaves_before_its_body_ends_is_no_error(
    port: int, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING):
        with connect(port) as connection:
            connection.sendall(
                head("/v1/memories", "Content-Type: application/json", "Content-Length: 100")
            )
            connection.sendall(b"{")
            for _ in range(3):  # the service answers others, so it has read this
                httpx.get(f"http://127.0.0.1:{port}/health/live")
        for _ in range(3):
            httpx.get(f"http://127.0.0.1:{port}/health/live")
    assert caplog.records == []
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        head("/v1/memories?user_id=\xff", method="GET"),
        head("/health/live", "X-Request-ID: a\x00b", method="GET"),
        head("/health/live", "Host: twice", method="GET"),
        head("/health/live#", method="GET"),
        head("/v1/users/ada/memories#/memories", method="DELETE"),
        b"GET /health/live HTTP/1.1\r\n\r\n",
        head("/v1/memories", "Content-Length: -1"),
        head("/v1/memories", "Content-Length: 1", "Content-Length: 2"),
    ],
)
def test_what_is_not_http_is_refused_and_the_next_client_served(port: int, request_: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(request_)
        assert read(connection.makefile("rb")).status_code == 400
    assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200


@pytest.mark.parametrize("endless", [b"a" * 65_536, b"X-Filler: a\r\n" * 5_000])
@pytest.mark.parametrize("start", [b"GET /", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
def test_a_head_without_end_is_refused(port: int, start: bytes, endless: bytes) -> None:
    with connect(port) as connection:
        connection.sendall(start)
        with suppress(ConnectionError):
            for _ in range(64):
                connection.sendall(endless)
        with suppress(ConnectionResetError):
            assert read(connection.makefile("rb")).status_code == 400
    assert httpx.get(f"http://127.0.0.1:{port}/health/live").status_code == 200


@pytest.mark.parametrize(("more", "status"), [(255, 200), (256, 400)])
def test_a_head_of_many_headers_is_refused(port: int, more: int, status: int) -> None:
    """Without an end, 400 heads of 60 KB held 600 MB: 15,000 headers each."""
    with connect(port) as connection:
        connection.sendall(head("/health/live", *["a:"] * more, method="GET"))
        assert read(connection.makefile("rb")).status_code == status


@pytest.mark.parametrize("more", [[], ["Connection: Upgrade", "Upgrade: h2c"]])
@pytest.mark.parametrize(("version", "status"), [("1.0", 403), ("1.1", 200)])
def test_without_keys_what_comes_in_a_proxys_version_of_http_is_refused(
    port: int, version: str, status: int, more: list[str]
) -> None:
    with connect(port) as connection:
        request = head("/v1/memories?user_id=ada", *more, method="GET")
        connection.sendall(request.replace(b" HTTP/1.1", f" HTTP/{version}".encode()))
        assert read(connection.makefile("rb")).status_code == status


def test_a_request_that_offers_another_protocol_is_answered_in_this_one(port: int) -> None:
    for upgrade in ("h2c", "websocket"):
        response = httpx.post(
            f"http://127.0.0.1:{port}/v1/memories/recall",
            content=RECALL,
            headers={
                "Content-Type": "application/json",
                "Connection": "Upgrade, HTTP2-Settings",
                "Upgrade": upgrade,
                "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
            },
        )
        assert response.json()["memories"] == []
