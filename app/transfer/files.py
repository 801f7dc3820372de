"""Files that may be compressed, by the end of their name: .gz is gzip, .zst is Zstandard."""

import asyncio
import gzip
import os
import sys
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from app.errors import InvalidInput

if TYPE_CHECKING:
    from backports.zstd import ZstdFile

STANDARD: Final = "-"
"""What standard input and output are called."""
_PIECE: Final = 1 << 20
"""Bytes that are read at once."""
_GZIP_LEVEL: Final = 6


def compression(name: str) -> str:
    """gzip, zstd or none, by a file's name."""
    return {".gz": "gzip", ".zst": "zstd", ".zstd": "zstd"}.get(Path(name).suffix.lower(), "none")


def name_without_compression(name: str) -> str:
    """The name of what is compressed."""
    return name if compression(name) == "none" else str(Path(name).with_suffix(""))


@contextmanager
def written(name: str) -> Iterator[IO[bytes]]:
    """A file to write, or standard output; it is compressed by its name.

    The file is there under its name once the block has ended, and is written on the disk then:
    until then it is beside it, with `.part` behind its name. Raises `InvalidInput`.
    """
    with _told(name):
        if name == STANDARD:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        part = Path(f"{name}.part")
        try:
            with part.open("wb") as raw:
                with _compressing(raw, name) as file:
                    yield file
                raw.flush()
                os.fsync(raw.fileno())
            part.replace(name)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file to read, or standard input, decompressed by its name. Raises `InvalidInput`."""
    with _told(name):
        if name == STANDARD:
            yield sys.stdin.buffer
            return
        with Path(name).open("rb") as raw, _decompressing(raw, name) as file:
            yield file


async def pieces(file: IO[bytes], name: str) -> AsyncIterator[bytes]:
    """What is in the file, read in a thread. Raises `InvalidInput`, also where it is cut."""
    while True:
        with _told(name):
            piece = await asyncio.to_thread(file.read, _PIECE)
        if not piece:
            return
        yield piece


@contextmanager
def _told(name: str) -> Iterator[None]:
    """In the block, what goes wrong with the file is told with its name."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, BrokenPipeError):
            raise
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise InvalidInput(f"{name}: {said}") from error
    except _zstd_errors() as error:
        raise InvalidInput(f"{name}: {error}") from error


def _zstd_errors() -> tuple[type[Exception], ...]:
    zstd = sys.modules.get(_zstd_name())
    return () if zstd is None else (zstd.ZstdError,)


def _zstd_name() -> str:
    return "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


@contextmanager
def _compressing(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    kind = compression(name)
    if kind == "gzip":
        with gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as file:
            yield cast(IO[bytes], file)
    elif kind == "zstd":
        with _zstd_file()(raw, "wb") as file:
            yield cast(IO[bytes], file)
    else:
        yield raw


@contextmanager
def _decompressing(raw: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    kind = compression(name)
    if kind == "gzip":
        with gzip.GzipFile(fileobj=raw, mode="rb") as file:
            yield cast(IO[bytes], file)
    elif kind == "zstd":
        with _zstd_file()(raw, "rb") as file:
            yield cast(IO[bytes], file)
    else:
        yield raw


def _zstd_file() -> "type[ZstdFile]":
    try:
        if sys.version_info >= (3, 14):
            from compression.zstd import ZstdFile
        else:
            from backports.zstd import ZstdFile
    except ModuleNotFoundError as error:
        raise InvalidInput(
            f"Zstandard needs {error.name}: pip install 'memory-driver-service[zstd]'"
        ) from error
    return ZstdFile
