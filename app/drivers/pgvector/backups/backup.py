"""Backs the embedded server's database up, while a service writes to it or while none runs."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from app import __version__
from app.drivers.pgvector.access import reached
from app.drivers.pgvector.backups import digests
from app.drivers.pgvector.backups.files import file_errors, sync
from app.drivers.pgvector.backups.manifest import DUMP, FORMAT, UNFINISHED, Manifest, Table
from app.drivers.pgvector.connecting import connect
from app.drivers.pgvector.embedded import accounts, programs
from app.drivers.pgvector.embedded.lock import locked
from app.drivers.pgvector.errors import backend_errors
from app.errors import ConfigurationError, DriverError, DriverUnavailable, InUse
from app.private import open_private
from app.settings import CLUSTER, DatabaseSettings, real
from app.tasks import both

_LOCK_MILLISECONDS = 60_000
"""How long pg_dump waits for a table that is being migrated."""
_SNAPSHOT = "select pg_export_snapshot()"


async def back_up(
    settings: DatabaseSettings, folder: Path, told: Callable[[int], None] = lambda _: None
) -> tuple[Path, Manifest]:
    """Make a backup of one moment, in a new folder in `folder`; the folder and what is in it.

    Others read and write meanwhile. `told` gets how many bytes there are, as they become more.
    A backup that was interrupted, at whatever moment, is none, and the next one removes it.
    Raises `ConfigurationError`, `InUse` where another backup goes on in the folder, and
    `DriverUnavailable` where the database does not stay.
    """
    if settings.url is not None:
        raise ConfigurationError(
            f"{settings.called('url')} is set, and this backs the embedded server up: back your "
            "own up with PostgreSQL's pg_dump"
        )
    folder = real(folder)
    cluster = real(settings.data_dir) / CLUSTER
    if folder.is_relative_to(cluster):
        raise ConfigurationError(f"{folder} is in the folder of the database: choose another")
    with file_errors(folder), _alone(folder):
        for left in folder.glob(f"*{UNFINISHED}"):
            shutil.rmtree(left)
        now = datetime.now(UTC)
        backup = folder / f"{now:%Y-%m-%dT%H-%M-%S}.{now.microsecond // 1000:03}Z"
        unfinished = backup.with_name(f"{backup.name}{UNFINISHED}")
        async with reached(settings, accounts.ADMINISTRATOR) as dsn:
            unfinished.mkdir(mode=0o700)
            try:
                manifest = await _written(settings, dsn, unfinished, now, told)
            except BaseException:
                shutil.rmtree(unfinished, ignore_errors=True)
                raise
        unfinished.rename(backup)
        sync(folder)
    return backup, manifest


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and let no other backup go on in it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        lock = locked(folder / "lock")
    except BlockingIOError:
        raise InUse(f"another backup into {folder} is under way") from None
    try:
        yield
    finally:
        os.close(lock)


async def _written(
    settings: DatabaseSettings,
    dsn: str,
    backup: Path,
    now: datetime,
    told: Callable[[int], None],
) -> Manifest:
    with _dump(backup / DUMP, told) as dump:
        try:
            tables = await _of_one_moment(settings, dsn, dump)
        except DriverError as error:
            raise DriverUnavailable(
                reason=f"{settings.called('data_dir')}: the backup was not finished: {error.reason}"
            ) from error
    manifest = Manifest(
        format=FORMAT,
        made_at=now,
        service=__version__,
        postgresql=await programs.version(),
        size=dump.size,
        sha256=dump.hash.hexdigest(),
        tables=tables,
    )
    manifest.write(backup)
    sync(backup)
    return manifest


async def _of_one_moment(settings: DatabaseSettings, dsn: str, dump: "_Dump") -> dict[str, Table]:
    """Write the dump; what the tables hold in the snapshot that it is made of."""
    connection = await connect(settings, dsn)
    try:
        with backend_errors():
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                snapshot = await connection.fetchval(_SNAPSHOT)
                tables, _ = await both(digests.tables(connection), dump.write(dsn, snapshot))
        return tables
    finally:
        connection.terminate()


class _Dump:
    """A file that gets what pg_dump writes."""

    def __init__(self, path: Path, file: IO[bytes], told: Callable[[int], None]) -> None:
        self.size = 0
        self.hash = hashlib.sha256()
        self._path = path
        self._file = file
        self._told = told

    async def write(self, dsn: str, snapshot: str) -> None:
        said = await programs.stream(
            programs.installed() / "pg_dump",
            "--format=custom",
            "--compress=gzip:1",
            "--no-owner",
            "--no-privileges",
            "--no-password",
            f"--snapshot={snapshot}",
            f"--lock-wait-timeout={_LOCK_MILLISECONDS}",
            f"--dbname={dsn}",
            take=self._take,
        )
        if said is not None:
            raise DriverUnavailable(reason=said)

    def _take(self, piece: bytes) -> None:
        with file_errors(self._path):
            self._file.write(piece)
        self.hash.update(piece)
        self.size += len(piece)
        self._told(self.size)


@contextmanager
def _dump(path: Path, told: Callable[[int], None]) -> Iterator[_Dump]:
    """A new one, which is durable in the end."""
    with open(open_private(path, os.O_WRONLY), "wb") as file:
        yield _Dump(path, file, told)
        file.flush()
        os.fsync(file.fileno())
