"""Files and folders that no other user of the machine may read, hold or replace."""

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_private(folder: Path, owner: int | None = None, *, entered: bool = False) -> bool:
    """Whether it is a folder, no link, of that user's (this one's) and of nobody else's.

    With `entered` others may pass through it.
    """
    try:
        found = folder.lstat()
    except OSError:
        return False
    allowed = stat.S_IXGRP | stat.S_IXOTH if entered else 0
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == (os.geteuid() if owner is None else owner)
        and not found.st_mode & _OTHERS & ~allowed
    )


def close_folder(folder: Path, ours: Callable[[str], bool]) -> None:
    """Keep others out of a folder that is this user's, and has nothing but what is `ours`."""
    found = folder.stat()
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS and all(map(ours, _names(folder))):
        with contextlib.suppress(OSError):  # a file system without modes
            folder.chmod(0o700)


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def open_private(path: Path, flags: int) -> int:
    """A descriptor of a file that only this user may read, made if it is not there.

    Raises what `keep_private` does.
    """
    keep_private(path)
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)


def keep_private(path: Path) -> None:
    """Make a file that only this user may read, or close one that is there to others.

    One that is there is not opened, since closing it would end this process's locks on it.
    Raises `PermissionError` for one that is neither this user's nor root's nor of the folder's
    owner, and `OSError` for anything but a file.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no file", str(path))
    if found.st_uid not in {os.geteuid(), 0, path.parent.stat().st_uid}:
        raise PermissionError(errno.EPERM, f"it belongs to the user {found.st_uid}", str(path))
    if found.st_mode & _OTHERS:
        with contextlib.suppress(OSError):  # a file system without modes
            path.chmod(0o600)


def is_safe(folder: Path) -> bool:
    """Whether no stranger can put something in the place of what is, or will be, in the folder.

    Other users whom an administrator gave a folder above it, or write access by a group, are
    trusted; an owner of a folder in one where anybody can make folders is not.
    """
    for part in (folder, *folder.parents):
        try:
            found, around = part.stat(), part.parent.stat()
        except FileNotFoundError:
            continue
        except OSError:
            return False
        if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
            return False
        anybodys = part == folder or around.st_mode & stat.S_IWOTH
        if anybodys and found.st_uid not in {os.geteuid(), 0}:
            return False
    return True
