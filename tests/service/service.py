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

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0


class Service:
    """`python -m app serve` on a free port, with only the given settings.

    As a context manager it starts, waits until it says that it is ready, and is stopped at the end.
    """

    def __init__(self, settings: Mapping[str, str], cwd: Path = ROOT) -> None:
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MEMORY_", "DATABASE_"))
        }
        self._environment |= {"MEMORY_PORT": "0", "HF_HUB_OFFLINE": "1", **settings}
        self._cwd = cwd
        self._lines: list[str] = []
        self.url = ""

    def start(self) -> Self:
        """Start without waiting."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            env=self._environment,
            cwd=self._cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
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

    def wait(self, seconds: float = 30) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(seconds)
        self._reader.join(5)
        return code

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """End it and wait; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.wait()

    def client(self, **arguments: object) -> httpx.Client:
        """An HTTP client of the service."""
        return httpx.Client(base_url=self.url, timeout=30, **arguments)  # type: ignore[arg-type]

    def __enter__(self) -> Self:
        return self.start().wait_ready()

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
