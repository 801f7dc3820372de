"""One process at a time uses the folder of an embedded server."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from app.errors import InUse
from app.private import close_folder, open_private
from app.settings import CLUSTER


class FolderLock:
    """Makes the folder, closes it to the machine's other users, and lets no other process use it.

    It ends with the process, however that ends.
    """

    def __init__(self, folder: Path, setting: str) -> None:
        """`setting`: what the operator sets the folder by."""
        self._folder = folder
        self._setting = setting
        self._file: int | None = None

    @property
    def is_taken(self) -> bool:
        """Whether this object has the lock."""
        return self._file is not None

    def take(self) -> None:
        """Raises `InUse` where another has it, and `OSError` for a folder that can't be used."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        close_folder(self._folder, _is_ours)
        try:
            self._file = locked(self._folder / "lock")
        except BlockingIOError:
            raise InUse(
                f"{self._setting}: {self._folder} is in use by another service process"
            ) from None

    def release(self) -> None:
        """Twice is harmless."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def locked(path: Path) -> int:
    """A descriptor of the file, made if it is not there, that no other process has the lock of.

    Raises `BlockingIOError` where one has it.
    """
    file = open_private(path, os.O_RDWR)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _is_ours(name: str) -> bool:
    """Whether the service, its journal or a new file system puts such a thing into the folder."""
    return name.startswith(CLUSTER) or name in {"lock", "journal", "lost+found"}
