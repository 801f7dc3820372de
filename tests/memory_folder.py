"""Where tests write: a folder in memory, if the machine has room for it.

What a test writes need not outlive a power cut. PostgreSQL and SQLite wait for the disk at every
commit and at every new cluster: on a disk that others use too, longer than the rest of a test.
"""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

_PLACE = Path("/dev/shm")  # noqa: S108 - nothing is made there but a folder of our own
_ROOM = 4 * 1024**3
"""Bytes that have to be free: several times what there is at once."""


def write_into_memory() -> None:
    """Let this process, and those it starts, write into such a folder until this process ends.

    Not where TMPDIR says where to write, and not where no program may be started: some tests copy
    programs there.
    """
    if "TMPDIR" in os.environ or not os.access(_PLACE, os.W_OK | os.X_OK):
        return
    if os.statvfs(_PLACE).f_flag & os.ST_NOEXEC or shutil.disk_usage(_PLACE).free < _ROOM:
        return
    folder = tempfile.mkdtemp(prefix="tests-", dir=_PLACE)
    os.chmod(folder, 0o711)  # noqa: S103 - where root tests, PostgreSQL is another user
    atexit.register(_remove, folder, os.getpid())
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def _remove(folder: str, made_by: int) -> None:
    """Remove the folder, unless this process is a fork of the one that made it."""
    if os.getpid() == made_by:
        shutil.rmtree(folder, ignore_errors=True)
