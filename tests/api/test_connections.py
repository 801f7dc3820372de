"""How long a connection may keep others waiting, with the times made short."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from app.api import connection
from app.embedding import Embedder
from tests.api.serving import build_app, listening
from tests.api.test_transport import connect, head, post, read

SECONDS = 1.0
ANSWERED = head("/health/live", method="GET")
UPGRADE = head("/health/live", "Connection: Upgrade", "Upgrade: h2c", method="GET")


@pytest.fixture(scope="module")
def port(embedder: Embedder) -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "_HEAD_SECONDS", SECONDS)
        patch.setattr(connection, "_UNTAKEN_SECONDS", SECONDS)
        patch.setattr(connection, "_LOOK_SECONDS", SECONDS / 10)
        with listening(build_app(embedder)) as port:
            yield port


def is_ended(client: socket.socket, drip: bytes) -> bool:
    """Whether the service ends the connection while `drip` is sent again and again."""
    client.settimeout(0.05)
    for _ in range(400):
        try:
            if drip:
                client.sendall(drip)
            if client.recv(65_536) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


@pytest.mark.parametrize(
    ("sent", "drip"),
    [
        (b"", b""),
        (b"POST /v1/memories HTTP/1.1\r\nHost: 127", b""),
        (b"POST /v1/memories HTTP/1.1\r\nHost: 127", b"0"),
        (b"", b"\r\n"),
        (ANSWERED, b"\r\n"),
        (ANSWERED + b"GET /", b"a"),
        (head("/nope", "Content-Length: 1000000"), b"a"),
        (head("/nope", "Transfer-Encoding: chunked") + b"0\r\n", b"a: b\r\n"),
        (UPGRADE + b"GET /", b"a"),
    ],
)
def test_a_head_or_an_answered_body_that_does_not_come_ends_the_connection(
    port: int, sent: bytes, drip: bytes
) -> None:
    with connect(port) as client:
        client.sendall(sent)
        assert is_ended(client, drip)


def test_a_client_that_takes_nothing_is_ended(port: int) -> None:
    with connect(port) as client:
        client.settimeout(0.5)
        with suppress(TimeoutError, ConnectionError):
            for _ in range(1_000):
                client.sendall(head("/openapi.json", method="GET") * 100)
        time.sleep(SECONDS * 3)
        assert is_ended(client, b"")


def test_a_client_that_takes_its_answers_slowly_gets_all(port: int) -> None:
    with connect(port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        client.sendall(head("/openapi.json", method="GET") * 50)
        stream = client.makefile("rb")
        for _ in range(50):
            assert read(stream).status_code == 200
            time.sleep(SECONDS / 20)


def test_every_request_of_many_sent_at_once_is_answered_in_order(port: int) -> None:
    sent = (post("/nope", b"x" * 6_000) + ANSWERED * 3 + post("/v1/memories", b"{" * 9_000)) * 40
    with connect(port) as client:
        client.sendall(sent)
        stream = client.makefile("rb")
        got = [read(stream).status_code for _ in range(200)]
    assert got == [404, 200, 200, 200, 422] * 40
