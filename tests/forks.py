"""Runs `python -m app` in processes of their own, which needn't import the program again.

A server imports it once and is forked for each of them. A fork has the environment, the folder, the
streams and the session that are asked for, and ends as a program does, with its own exit code.
"""

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Any

_ROOT = Path(__file__).parents[1]
_NUMBER = 4
"""Bytes of a number on a socket."""
_IMPORTED = (
    "app.cli",
    "app.drivers.automem",
    "app.drivers.inmemory",
    "app.drivers.pgvector",
    "app.drivers.pgvector.access",
    "app.drivers.pgvector.backups.backup",
    "app.drivers.pgvector.backups.restore",
    "app.drivers.pgvector.indexes",
    "app.drivers.pgvector.words",
    "app.embedding.local",
    "app.journal.upkeep",
    "app.wrappers.cached",
    "app.wrappers.failover",
    "app.wrappers.replicated",
    "app.wrappers.scoped",
    "httptools",
    "redis.asyncio",
    "rich.table",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "uvloop",
)
"""Nothing that starts a thread, which a fork would lack: so no engine of the embedding."""


class Fork:
    """A process that runs `python -m app` with these words; it is used as `subprocess.Popen` is."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        streams: tuple[int | IO[Any], int | IO[Any], int | IO[Any]],
    ) -> None:
        """`streams` are its input, output and errors: open files, or their descriptors."""
        order = {"words": words, "environment": dict(environment), "folder": str(folder)}
        descriptors = [each if isinstance(each, int) else each.fileno() for each in streams]
        self.returncode: int | None = None
        self._lock = threading.Lock()
        self._told, theirs = socket.socketpair()
        with theirs:
            _server().send(json.dumps(order).encode(), [theirs.fileno(), *descriptors])
        self.pid = self._number()

    def _number(self) -> int:
        """What the keeper tells next: first the pid, then the exit code."""
        said = self._told.recv(_NUMBER)
        assert len(said) == _NUMBER, "the server of the forks has ended"
        return int.from_bytes(said, "big", signed=True)

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code, which is negative for a signal."""
        with self._lock:
            if self.returncode is None:
                self._told.settimeout(timeout)
                try:
                    self.returncode = self._number()
                except (TimeoutError, BlockingIOError):
                    raise subprocess.TimeoutExpired("python -m app", timeout or 0) from None
                self._told.close()
            return self.returncode

    def send_signal(self, sign: int) -> None:
        """Send the signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, sign)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)


@dataclass(frozen=True)
class _Server:
    """What is forked; it ends when this process does."""

    orders: socket.socket
    process: subprocess.Popen[bytes]
    lock: threading.Lock

    def send(self, order: bytes, descriptors: list[int]) -> None:
        """Let it fork once; to the first descriptor it tells of the fork."""
        with self.lock:
            socket.send_fds(self.orders, [len(order).to_bytes(_NUMBER, "big")], descriptors)
            self.orders.sendall(order)


@cache
def _server() -> _Server:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks"],
            cwd=_ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # else numpy starts threads
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    return _Server(ours, process, threading.Lock())


def program(
    words: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    streams: tuple[int | IO[Any], int | IO[Any], int | IO[Any]],
    *,
    anew: bool = False,
) -> Fork | subprocess.Popen[bytes]:
    """A process that runs `python -m app` with these words; with `anew` it imports the program.

    Elsewhere than on Linux it always does: a system's library may not survive a fork.
    """
    if sys.platform == "linux" and not anew:
        return Fork(words, environment, folder, streams)
    return subprocess.Popen(
        [sys.executable, "-m", "app", *words],
        env=environment,
        cwd=folder,
        stdin=streams[0],
        stdout=streams[1],
        stderr=streams[2],
        start_new_session=True,
    )


def _serve() -> None:
    """Fork for each order that comes from standard input; returns only in the forks."""
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    if sys.platform == "linux":
        assert len(os.listdir("/proc/self/task")) == 1, "a fork would lack its threads"
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a keeper
    with socket.socket(fileno=os.dup(0)) as orders:
        while True:
            size, descriptors, _, _ = socket.recv_fds(orders, _NUMBER, 4)
            if not size:
                sys.exit()
            order = orders.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
            if os.fork() == 0:
                break
            for descriptor in descriptors:
                os.close(descriptor)
    _keep(json.loads(order), *descriptors)


def _keep(order: dict[str, Any], status: int, *streams: int) -> None:
    """Fork again, tell the fork's pid and at its end the exit code; returns only in the fork."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    pid = os.fork()
    if pid == 0:
        os.close(status)
        _become(order)
        return
    os.closerange(0, len(streams))  # who reads its output is to see that it ended
    os.write(status, pid.to_bytes(_NUMBER, "big", signed=True))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(status, code.to_bytes(_NUMBER, "big", signed=True))
    os._exit(0)


def _become(order: dict[str, Any]) -> None:
    """Have what a process that starts has."""
    os.setsid()
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [order["folder"], *filter(None, path)]
    sys.argv = ["app", *order["words"]]


if __name__ == "__main__":
    _serve()
    importlib.import_module("app.cli").main()
