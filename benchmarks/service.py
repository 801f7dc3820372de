"""The real service, as `make run` starts it: a process of its own on a PostgreSQL of its own."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path
from time import monotonic, perf_counter, sleep
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).parents[1]
"""The checkout that this is of."""
_READY_SECONDS = 120.0
_STOP_SECONDS = 60.0


class Service:
    """Started when entered, ready then, and stopped when left."""

    def __init__(self, data_dir: Path, ranking: str, root: Path = ROOT, /, **settings: str) -> None:
        """`settings`: variables besides, which outrank ours. `root`: the checkout that it is of."""
        self._data_dir = data_dir
        self._root = root
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AUTOMEM_", "MEMORY_", "DATABASE_", "PYTHONPATH"))
        }
        self._environment = {
            **inherited,
            "MEMORY_DRIVER": "pgvector",
            "MEMORY_DATA_DIR": str(data_dir),
            "MEMORY_PORT": "0",
            "MEMORY_RECALL_RANKING": ranking,
            "HF_HUB_OFFLINE": "1",
            **settings,
        }
        self._lines: list[str] = []
        self.port = 0
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        started = perf_counter()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "app", "serve"],
            env=self._environment,
            cwd=self._root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        deadline = monotonic() + _READY_SECONDS
        while not (found := re.search(r"^Ready: http://\S+:(\d+)/", "".join(self._lines), re.M)):
            if self._process.poll() is not None or monotonic() > deadline:
                self._process.kill()
                raise SystemExit("the service did not get ready:\n" + "".join(self._lines))
            sleep(0.005)
        self.start_seconds = perf_counter() - started
        self.port = int(found[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        for line in self._process.stdout:
            self._lines.append(line)

    def megabytes(self) -> float:
        """Memory of the service's process and all that it started: its PostgreSQL.

        What processes share is divided among them (PSS) where the system tells it, on Linux.
        """
        service = psutil.Process(self._process.pid)
        return sum(megabytes(each) for each in (service, *service.children(recursive=True)))

    @property
    def server(self) -> str:
        """The URL of its PostgreSQL's maintenance database."""
        return database_url(self._data_dir, "postgres")


def megabytes(process: psutil.Process) -> float:
    """Memory of one process: its share of what it has in common with others, too (PSS)."""
    try:
        full = process.memory_full_info()
    except psutil.NoSuchProcess:  # a worker of PostgreSQL that has just ended
        return 0.0
    return float(getattr(full, "pss", full.uss)) / 1e6


def database_url(data_dir: Path, name: str) -> str:
    """Where the embedded PostgreSQL that runs on this folder has that database."""
    lines = (data_dir / "postgresql" / "postmaster.pid").read_text().splitlines()
    return f"postgresql://memory@/{name}?host={lines[4]}&port={lines[3]}"
