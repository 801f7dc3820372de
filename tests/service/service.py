"""The service as its users have it: a process of its own, reached over HTTP."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from tests.forks import Fork, program

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "app", "serve"]
READY_SECONDS = 120.0


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with only the given settings of the service."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AUTOMEM_", "MEMORY_", "DATABASE_"))
    }
    # Two threads of torch wait for each other long where something else uses the processors.
    ours = {
        "MEMORY_PORT": "0",
        "HF_HUB_OFFLINE": "1",
        "MEMORY_EMBEDDING_THREADS": "1",
        "MEMORY_EMBEDDING_ENGINE": os.environ["MEMORY_EMBEDDING_ENGINE"],
    }
    return {**inherited, **ours, **settings}


class Service:
    """`python -m app serve` on a free port, with only the given settings.

    As a context manager it starts, waits until it says that it is ready, and is stopped at the end.
    With a `key` it accepts only that one, which its clients send. `folder` is where it works. It is
    a fork of a process that imported the program; with `anew` it imports the program itself.
    """

    process: Fork | subprocess.Popen[bytes]

    def __init__(
        self,
        settings: Mapping[str, str],
        key: str = "",
        folder: Path = ROOT,
        *,
        anew: bool = False,
    ) -> None:
        code = {} if folder == ROOT else {"PYTHONPATH": str(ROOT)}
        self._environment = environment({"MEMORY_API_KEYS": key, **code, **settings})
        self._folder = folder
        self._anew = anew
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._lines: list[str] = []
        self.url = ""

    def start(self) -> Self:
        """Start without waiting."""
        reading, writing = os.pipe()
        try:
            self.process = self._started(writing)
        finally:
            os.close(writing)
            self._reader = threading.Thread(target=self._read, args=[reading], daemon=True)
            self._reader.start()
        return self

    def _started(self, output: int) -> Fork | subprocess.Popen[bytes]:
        with open(os.devnull) as nothing:
            streams = (nothing, output, output)
            return program(["serve"], self._environment, self._folder, streams, anew=self._anew)

    def _read(self, reading: int) -> None:
        with open(reading) as lines:
            for line in lines:
                self._lines.append(line)

    @property
    def output(self) -> str:
        """Everything that it printed so far."""
        return "".join(self._lines)

    def wait_ready(self) -> Self:
        """Wait for the line that tells the URL of the documentation."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            found = re.search(r"^Ready: (http://\S+)/docs", self.output, re.MULTILINE)
            if found:
                self.url = found[1]
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"the service did not get ready:\n{self.output}")

    def wait(self, seconds: float = 60) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End it and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.wait()

    def client(self, headers: Mapping[str, str] | None = None) -> httpx.Client:
        """An HTTP client of the service."""
        headers = self._headers if headers is None else headers
        return httpx.Client(base_url=self.url, timeout=60, headers=headers)

    def store(self, user_id: str, content: str) -> str:
        """Store a memory, which must succeed; its id."""
        with self.client() as client:
            stored = client.post("/v1/memories", json={"user_id": user_id, "content": content})
        assert stored.status_code == 201, stored.text
        return str(stored.json()["memory_id"])

    def recalled(self, user_id: str, query: str) -> list[str]:
        """The contents of the user's memories, best first."""
        with self.client() as client:
            found = client.post("/v1/memories/recall", json={"user_id": user_id, "query": query})
        assert found.status_code == 200, found.text
        return [str(memory["content"]) for memory in found.json()["memories"]]

    def wait_recovered(self, seconds: float = 30) -> None:
        """Wait until it can serve again."""
        deadline = time.monotonic() + seconds
        with self.client() as client:
            while client.get("/health/ready").status_code != 200:
                assert time.monotonic() < deadline, f"it did not recover:\n{self.output}"
                time.sleep(0.1)

    def __enter__(self) -> Self:
        try:
            return self.start().wait_ready()
        except BaseException:
            self.process.kill()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    """The response is a problem (RFC 9457) of that status and code."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["request_id"] == response.headers["x-request-id"]
