"""A temporary folder of one server: its socket and, if need be, a copy of the programs."""

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from app.drivers.pgvector.embedded import programs, server_user
from app.errors import ConfigurationError
from app.private import is_private

_USUAL = "/tmp"  # noqa: S108 - a folder of an unguessable name is made in it


@dataclass(frozen=True)
class Room:
    """A folder of this process's user, in which the server's user gets one for the socket."""

    folder: Path

    @classmethod
    async def made(cls) -> Self:
        """A new one, which the server's user can enter. Raises `ConfigurationError`."""
        guest = server_user.creator() if server_user.is_root() else None
        for place in dict.fromkeys((tempfile.gettempdir(), _USUAL)):
            room = cls(Path(tempfile.mkdtemp(prefix="memory-", dir=place)))
            if guest is None:
                return room
            room.folder.chmod(0o711)
            if await programs.reachable(room.folder, guest):
                return room
            room.remove()
        raise ConfigurationError(
            f"TMPDIR: only root can enter {place}, where PostgreSQL's socket would be: choose "
            "another folder"
        )

    @property
    def sockets(self) -> Path:
        """The folder of the Unix socket."""
        return self.folder / "s"

    def admit(self, uid: int | None) -> None:
        """Make the folder of the Unix socket, which is the server's user's."""
        self.sockets.mkdir(mode=0o700)
        if uid is not None:
            os.chown(self.sockets, uid, uid)

    def is_whole(self, uid: int | None) -> bool:
        """Whether it is still what was made, and nothing of another user's in its place."""
        return self._is_ours() and is_private(self.sockets, uid)

    async def programs(self) -> Path:
        """The folder of PostgreSQL's programs: where they are installed, or else a copy in here."""
        binaries = programs.installed()
        guest = server_user.creator() if server_user.is_root() else None
        if await programs.reachable(binaries / "postgres", guest):
            return binaries
        return programs.copied(binaries, self.folder)

    def remove(self) -> None:
        """Remove it, unless another user has put something in its place."""
        if self._is_ours():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _is_ours(self) -> bool:
        return is_private(self.folder, entered=True)
