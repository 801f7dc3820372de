"""Pages of a mapped file that nobody reads again."""

import ctypes
import mmap
import os
from pathlib import Path

_MAPS = Path("/proc/self/maps")


def let_go(file: Path) -> None:
    """Take the file's pages out of this process, where it has the file mapped; Linux alone can.

    What is read after all comes back from the file. A mapping that this process could write to
    stays as it is.
    """
    if not _MAPS.exists():
        return
    name = os.fsencode(file.resolve())
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in _MAPS.read_bytes().splitlines():
        where, rights, *_, path = line.split(maxsplit=5)
        if path == name and b"w" not in rights:
            start, end = (int(address, 16) for address in where.split(b"-"))
            madvise(start, end - start, mmap.MADV_DONTNEED)
