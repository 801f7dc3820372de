"""A client that costs little: keep-alive connections on bare sockets, one thread, no HTTP library.

It runs in a process of its own (`Client`), so that what it costs is not taken for the service's.
"""

import json
import selectors
import socket
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from time import perf_counter, process_time
from types import TracebackType
from typing import Any, Self

_SECONDS = 120.0
_RECEIVED = 1 << 18


@dataclass(frozen=True, slots=True)
class Driven:
    """What a run of requests took."""

    seconds: float
    latencies: list[float]
    """Seconds of each request, in the order of the answers."""
    cpu_seconds: float
    """Of the client itself."""

    @property
    def per_second(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds


def post(path: str, body: Mapping[str, Any]) -> bytes:
    """A whole request."""
    content = json.dumps(body, ensure_ascii=False).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


class Client:
    """The process that sends requests to one service."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._process = ProcessPoolExecutor(1, get_context("spawn"))

    def drive(
        self, requests: Sequence[bytes], in_flight: int, status: int | tuple[int, ...] = 200
    ) -> Driven:
        """Send them all, `in_flight` at a time; raises unless each is answered with a `status`."""
        return self._process.submit(drive, self._port, requests, in_flight, status).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After a failure it may still wait for answers, which end with the service.
        self._process.shutdown(wait=kind is None, cancel_futures=True)


def drive(
    port: int, requests: Sequence[bytes], in_flight: int, status: int | tuple[int, ...]
) -> Driven:
    """`Client.drive`, in this process."""
    expected = (status,) if isinstance(status, int) else status
    waiting = iter(requests)
    latencies: list[float] = []
    with selectors.DefaultSelector() as selector:
        connections = [_Connection(port, expected) for _ in range(min(in_flight, len(requests)))]
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        used, started = process_time(), perf_counter()
        for connection in connections:
            connection.send(next(waiting))
        while len(latencies) < len(requests):
            ready = selector.select(_SECONDS)
            if not ready:
                raise TimeoutError(f"no answer within {_SECONDS:.0f} s")
            for key, _ in ready:
                taken = key.data.receive()
                if taken is not None:
                    latencies.append(taken)
                    request = next(waiting, None)
                    if request is None:  # the service may close it while others are answered
                        selector.unregister(key.fileobj)
                    else:
                        key.data.send(request)
        seconds, cpu = perf_counter() - started, process_time() - used
    for connection in connections:
        connection.socket.close()
    return Driven(seconds, latencies, cpu)


class _Connection:
    """One request at a time; its answer's length must be told."""

    def __init__(self, port: int, expected: tuple[int, ...]) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._expected = tuple(b"HTTP/1.1 %d " % status for status in expected)
        self._sent = 0.0
        self._answer = bytearray()
        self._length: int | None = None

    def send(self, request: bytes) -> None:
        self._sent = perf_counter()
        self.socket.sendall(request)

    def receive(self) -> float | None:
        """Read what has come; the seconds of the request once it is all there."""
        data = self.socket.recv(_RECEIVED)
        if not data:
            raise ConnectionError(f"the service left: {bytes(self._answer[:500])!r}")
        self._answer += data
        if self._length is None:
            end = self._answer.find(b"\r\n\r\n")
            if end < 0:
                return None
            head = bytes(self._answer[:end]).lower()
            self._length = end + 4 + int(head.partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(self._answer) < self._length:
            return None
        if not self._answer.startswith(self._expected):
            raise RuntimeError(f"no {self._expected!r}: {bytes(self._answer[:500])!r}")
        self._answer.clear()
        self._length = None
        return perf_counter() - self._sent
