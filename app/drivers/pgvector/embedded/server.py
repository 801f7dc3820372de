"""A PostgreSQL with pgvector from a wheel, whose life ends with this process, however it ends."""

import asyncio
import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from app.drivers.pgvector.embedded import accounts, cluster, programs, server_user
from app.drivers.pgvector.embedded.lock import FolderLock
from app.drivers.pgvector.embedded.room import Room
from app.errors import ConfigurationError
from app.logs import get_logger
from app.machine import memory_bytes
from app.private import open_private
from app.settings import CLUSTER, real
from app.tasks import end

if TYPE_CHECKING:
    import psutil

_log = get_logger(__name__)

# PostgreSQL stops when this script's standard input ends: when the service closes it, and also
# when the service is killed and the kernel does. It is a session of its own, out of Ctrl-C's reach.
_KEEPER = """
ours() { [ -O "$ROOM" ] && [ ! -h "$ROOM" ]; }
exec 3<&0
"$@" &
server=$!
{ read -r nothing <&3; ours && touch "$ROOM/stopping"; kill -INT $server; } >/dev/null 2>&1 &
keeper=$!
wait $server
status=$?
kill $keeper 2>/dev/null
ours && [ -e "$ROOM/stopping" ] && rm -rf "$ROOM"
exit $status
"""

# A killed server leaves its socket, and a lock that names a process id. The rules of before, which
# may be looser, never count.
_PREPARE = """
umask 077
rm -f "$1"/.s.PGSQL.*
printf %s "$2" > pg_hba.conf && printf %s "$3" > pg_ident.conf
"""

_PORT = "5432"
_START_SECONDS = 60.0
_STOP_SECONDS = 60.0
_DELETIONS, _DELETION_SECONDS = 100, 0.1
_AUTOVACUUM_SECONDS = 10
"""Between two looks of autovacuum, also for what other programs wrote; a minute by default."""

_STATISTICS = 20
"""What `analyze` samples is 300 times as many rows, of 2.5 KB each: 15 MB, and by default 75."""

_SHARE = 1_000
_LEAST_BUFFERS, _MOST_BUFFERS = 32, 256

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}
"""What may be otherwise in a moment; all else that fails with files somebody has to mend."""


def shared_buffers(memory: int) -> int:
    """Megabytes for PostgreSQL's own cache: a thousandth of the machine's bytes, from 32 to 256.

    The system's page cache keeps the files too, in memory that other programs may have back.
    """
    return max(_LEAST_BUFFERS, min(_MOST_BUFFERS, memory // _SHARE // 2**20))


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
        self._lock = FolderLock(self._root, setting)
        self._room: Room | None = None
        self._uid: int | None = None
        """Whom the server runs as, where that is not this process's user."""
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def socket_dir(self) -> str:
        """The folder of the Unix socket, another one after somebody has meddled with the first.

        Raises `ConnectionError` where what is in its place is not ours.
        """
        if self._room is None or not self._room.is_whole(self._uid):
            raise ConnectionError("the folder of the embedded PostgreSQL's socket is gone")
        return str(self._room.sockets)

    @property
    def dsn(self) -> str:
        """Where the service connects while the server is open."""
        return self.dsn_of(accounts.SERVICE)

    @property
    def admin_dsn(self) -> str:
        """Where a superuser connects."""
        return self.dsn_of(accounts.ADMINISTRATOR)

    def dsn_of(self, role: str) -> str:
        """Where that role connects, to the service's database."""
        return accounts.url(role, accounts.DATABASE, self.socket_dir, _PORT)

    @property
    def pid(self) -> int:
        """The process id of PostgreSQL's postmaster."""
        return int((self._cluster / "postmaster.pid").read_text().split()[0])

    async def open(self) -> None:
        """Start the server, on first use in a new cluster. Raises `ConfigurationError`."""
        if self._supervisor is not None:
            return
        await self.close()  # what a caller that was cancelled has left
        with self._named_errors():
            programs.installed()
            self._lock.take()
            try:
                await self._stop_leftover()
                self._room = await Room.made()
                if not cluster.is_made(self._cluster):
                    cluster.check_restored(self._root, self._setting)
                    await cluster.create(self._cluster, self._setting, await self._room.programs())
                await cluster.check_version(self._cluster, self._setting)
                self._uid = server_user.settled(self._cluster, self._setting)
                self._room.admit(self._uid)
                await self._start()
                await accounts.set_up(self.socket_dir, _PORT)
            except BaseException:
                await self._stop()
                self._lock.release()
                raise
        self._supervisor = asyncio.create_task(self._restart_when_it_dies())

    async def close(self) -> None:
        """Shut the server down cleanly and wait until it is gone; cancelled, it can go on."""
        if self._lock.is_taken:
            supervisor, self._supervisor = self._supervisor, None
            await end(supervisor)
            await self._stop()
            self._lock.release()

    async def remove(self) -> None:
        """Delete its folder with all that is in it, and end a server that was left there."""
        await self.close()
        if not self._root.exists():
            return
        with self._named_errors(), self._lock:
            await self._stop_leftover()
            await asyncio.to_thread(_delete, self._root)

    @contextlib.contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Let what is wrong with a file or folder leave with its path, for the operator."""
        try:
            yield
        except OSError as error:
            if error.errno is None or error.errno in _PASSING:
                raise
            where = error.filename2 or error.filename or self._root
            raise ConfigurationError(
                f"{self._setting}: {where} can't be used ({error.strerror})"
            ) from error

    async def _start(self) -> None:
        if self._room is None or not self._room.is_whole(self._uid):
            _log.warning("embedded_postgresql_socket_folder_lost")
            self._room = await Room.made()
            self._room.admit(self._uid)
        binaries = await self._room.programs()
        sockets = str(self._room.sockets)
        said = await programs.run(
            "/bin/sh",
            *("-c", _PREPARE, "memory-postgresql", sockets, accounts.RULES, accounts.users()),
            uid=self._uid,
            folder=self._cluster,
        )
        if said is not None:
            raise ConfigurationError(f"{self._setting}: {self._cluster} can't be used ({said})")
        output = open_private(self._server_log, os.O_WRONLY | os.O_APPEND)
        try:
            self._process = await asyncio.create_subprocess_exec(
                "/bin/sh",
                *("-c", _KEEPER, f"memory-postgresql {self._cluster}"),
                *server_user.command(self._uid),
                str(binaries / "postgres"),
                *("-D", cluster.as_seen_by(self._uid, self._cluster)),
                *("-k", sockets),
                *("-p", _PORT),
                *("-c", "listen_addresses="),
                *("-c", f"shared_buffers={shared_buffers(memory_bytes())}MB"),
                *("-c", f"autovacuum_naptime={_AUTOVACUUM_SECONDS}"),
                *("-c", f"default_statistics_target={_STATISTICS}"),
                cwd=self._cluster,
                env={**programs.ENVIRONMENT, "ROOM": str(self._room.folder)},
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        finally:
            os.close(output)
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not self._is_ready(sockets):
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

    def _is_ready(self, sockets: str) -> bool:
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[4] == sockets and lines[7].strip() == "ready"

    async def _stop(self) -> None:
        await self._end()
        if self._room is not None:
            self._room.remove()
            self._room = None

    async def _end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._process.wait()
            except TimeoutError:
                _log.error("embedded_postgresql_does_not_stop", log=str(self._server_log))
            self._process = None

    async def _stop_leftover(self) -> None:
        """End a server whose service was killed: usually its keeper is doing so already."""
        import psutil  # only there with the extra `embedded`

        try:
            process = psutil.Process(self.pid)
            is_server = process.name() == "postgres" and self._is_on_cluster(process)
        except (FileNotFoundError, psutil.NoSuchProcess):
            return  # PostgreSQL itself sees that the file is stale, and that nobody uses the data
        except (IndexError, ValueError, psutil.Error):
            is_server = False
        if is_server:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
                await asyncio.to_thread(process.wait, _STOP_SECONDS)
        else:
            # PostgreSQL would take the process that has this id now for a server.
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _is_on_cluster(self, server: "psutil.Process") -> bool:
        import psutil

        try:
            return server.cwd() == str(real(self._cluster))
        except psutil.AccessDenied:  # to root without CAP_SYS_PTRACE, as in most containers
            sockets = (self._cluster / "postmaster.pid").read_text().splitlines()[4]
            return sockets in server.cmdline()

    async def _restart_when_it_dies(self) -> None:
        while self._process is not None:
            code = await self._process.wait()
            _log.error("embedded_postgresql_died", exit_code=code, log=str(self._server_log))
            while True:
                try:
                    await self._start()
                    break
                except (ConfigurationError, OSError) as error:
                    _log.error("embedded_postgresql_not_restarted", reason=str(error))
                    await asyncio.sleep(5)
            _log.warning("embedded_postgresql_restarted")


def _delete(folder: Path) -> None:
    """Delete it, though an initdb that outlived its service may still make files in it."""
    for _ in range(_DELETIONS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_DELETION_SECONDS)
    shutil.rmtree(folder)


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError, IndexError):
        return log.read_text(errors="replace").strip().splitlines()[-1]
    return "it printed nothing"
