"""Where a service with the embedded PostgreSQL lives, and what it leaves there."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from tests.service.service import Service


@dataclass(frozen=True)
class Home:
    """A data directory, and a folder of its own for temporary files."""

    data: Path
    temporary: Path

    @classmethod
    @contextmanager
    def made(cls) -> Iterator[Self]:
        """A new one, whose path is short enough for a socket in it."""
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / "tmp"
            temporary.mkdir()
            for part in (Path(folder), temporary):
                part.chmod(0o711)  # where root starts it, PostgreSQL is another user
            yield cls(Path(folder) / "data", temporary)

    def service(self, *, anew: bool = False) -> Service:
        """A service that lives here, not started."""
        return Service(
            {
                "MEMORY_DRIVER": "pgvector",
                "MEMORY_DATA_DIR": str(self.data),
                "TMPDIR": str(self.temporary),
                "PGPORT": "1",  # of another server, which is none of ours
                "PGHOST": "nowhere.invalid",
            },
            anew=anew,
        )

    @property
    def pid_file(self) -> Path:
        """PostgreSQL's own."""
        return self.data / "postgresql" / "postmaster.pid"

    @property
    def sockets(self) -> Path:
        """The folder of PostgreSQL's socket."""
        return Path(self.pid_file.read_text().splitlines()[4])

    @property
    def server_log(self) -> str:
        """What PostgreSQL logged in all its lives."""
        return (self.data / "postgresql.log").read_text()

    def postgresql(self) -> psutil.Process:
        """The postmaster, waited for."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return psutil.Process(int(self.pid_file.read_text().split()[0]))
            except (OSError, IndexError, psutil.NoSuchProcess):
                assert time.monotonic() < deadline, "PostgreSQL does not start"
                time.sleep(0.02)

    def processes(self) -> list[psutil.Process]:
        """Those with the data directory in their command line, and all that they started."""
        ours = [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(str(self.data) in part for part in process.info["cmdline"] or ())
        ]
        return [*ours, *(child for process in ours for child in process.children(recursive=True))]

    def leftovers(self, ran: list[psutil.Process]) -> list[str]:
        """The processes that still run, of `ran` or of this home, and the sockets' folders."""
        running = [process for process in {*ran, *self.processes()} if process.is_running()]
        return [str(left) for left in (*running, *self.temporary.glob("memory-*"))]

    def wait_left(self, ran: list[psutil.Process], seconds: float = 20) -> list[str]:
        """The leftovers, when they are gone or the time is over."""
        deadline = time.monotonic() + seconds
        while (left := self.leftovers(ran)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left
