"""Real servers of Redis that know each other: replicas, Sentinels, the shards of a cluster."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.exceptions import AuthenticationError, RedisError

from tests.redis_server import NO_SEARCH, can_search, search_server

_CLUSTER_PORT = 10_000
"""The port of a cluster's own is that of the server and so many."""


def free_port() -> int:
    """One that nobody listens on, as on that of the cluster, which is so much higher."""
    while True:
        with socket.socket() as probe, socket.socket() as other:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            with suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + _CLUSTER_PORT))
                return port


class Nodes:
    """Servers by their ports on 127.0.0.1, which end with the test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    def server(self, *options: str) -> int:
        """One that searches; its port."""
        program = [*search_server(self._folder), "--save", ""]
        return self._started(lambda port: [*program, "--port", str(port), *options])

    def sentinel(self, primary: int, *lines: str) -> int:
        """A Sentinel that watches what is at the port, as `main`; its port."""

        def program(port: int) -> list[str]:
            file = self._folder / f"sentinel-{port}.conf"
            watched = [f"port {port}", f"sentinel monitor main 127.0.0.1 {primary} 1", *lines]
            file.write_text("".join(f"{line}\n" for line in watched))
            return [search_server(self._folder)[0], str(file), "--sentinel"]

        return self._started(program)

    def client(self, port: int) -> redis.Redis:
        """A client of the tests' own."""
        return redis.Redis(port=port, protocol=2)

    def kill(self, port: int) -> None:
        """As when the machine is gone."""
        process = self._processes.pop(port)
        process.kill()
        process.wait(20)

    def freeze(self, port: int) -> None:
        """It accepts connections, and answers nothing."""
        self._processes[port].send_signal(signal.SIGSTOP)

    def end(self) -> None:
        """End all of them."""
        for port in list(self._processes):
            self.kill(port)

    def until(self, holds: Callable[[], object]) -> None:
        """Wait until it holds; a server that does not answer is one of which it does not."""
        deadline = time.monotonic() + 30
        while True:
            try:
                if holds():
                    return
            except RedisError:
                pass
            assert time.monotonic() < deadline, "it does not come to hold"
            time.sleep(0.01)

    def _started(self, program: Callable[[int], list[str]]) -> int:
        port = free_port()
        folder = self._folder / str(port)
        folder.mkdir()
        command = [*program(port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self._processes[port] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        with self.client(port) as client:
            self.until(lambda: _is_there(client))
        return port


def _is_there(client: redis.Redis) -> bool:
    try:
        client.ping()
    except AuthenticationError:  # it wants a password
        return True
    return True


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    """None yet."""
    if not can_search():
        pytest.skip(NO_SEARCH)
    made = Nodes(tmp_path)
    try:
        yield made
    finally:
        made.end()
