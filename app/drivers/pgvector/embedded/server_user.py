"""Whom PostgreSQL runs as: this user or, where that is root, an id that no account has.

PostgreSQL refuses to be root. Whoever has the id of a process can read what that process can: so
the server's is neither `nobody`'s nor `postgres`'s, whom other programs run as too.
"""

import contextlib
import os
import pwd
import secrets
import shutil
from pathlib import Path

from app.errors import ConfigurationError

_IDS = range(61_184, 65_520)
"""What systemd gives to services without an account; no account ever has one of these."""
_CREATORS = ("postgres", "nobody")
"""Whom initdb runs as, which wants a name; up to 0.1.0 the server ran as the first of them too."""


def is_root() -> bool:
    """Whether the server needs another id than this process."""
    return os.geteuid() == 0


def creator() -> int:
    """The id that a cluster is made with by root, before the server gets it."""
    for name in _CREATORS:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
    raise ConfigurationError("the embedded PostgreSQL can't run as root: start it as a user")


def settled(cluster: Path, setting: str) -> int | None:
    """The id to run the server on `cluster` as, where this process is root; else None.

    The cluster is given to that id if it is not its own yet. Raises `ConfigurationError` for
    another user's cluster.
    """
    if not is_root():
        return None
    owner = cluster.stat().st_uid
    if owner in _IDS and _name(owner) is None:
        return owner
    if _name(owner) not in _CREATORS:
        raise ConfigurationError(
            f"{setting}: {cluster} belongs to the user {_name(owner) or owner}: start the service "
            "as that user, or choose another folder"
        )
    uid = next(uid for uid in secrets.SystemRandom().sample(_IDS, len(_IDS)) if _name(uid) is None)
    _give(cluster, owner, uid)
    return uid


def _give(cluster: Path, old: int, new: int) -> None:
    """Let `new` own what `old` does; what is there by a link of somebody's stays as it is."""
    for _, folders, files, here in os.fwalk(cluster):
        for name in (*folders, *files):
            if os.stat(name, dir_fd=here, follow_symlinks=False).st_uid == old:
                os.chown(name, new, new, dir_fd=here, follow_symlinks=False)
    os.chown(cluster, new, new)  # last: it tells that the rest is done


def _name(uid: int) -> str | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return None


def command(uid: int | None) -> list[str]:
    """What a command begins with that is to run as `uid`, without any of root's rights."""
    if uid is None:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "the embedded PostgreSQL can't run as root without setpriv (util-linux): install it, "
            "or start the service as a user"
        )
    return [
        setpriv,
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        "--no-new-privs",
    ]
