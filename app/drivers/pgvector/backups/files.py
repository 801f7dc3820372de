"""Files of backups: made durable, and what is wrong with them told to the operator."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.errors import ConfigurationError


@contextmanager
def file_errors(folder: Path) -> Iterator[None]:
    """Let an `OSError` leave as a `ConfigurationError` with the path, or the folder, and why."""
    try:
        yield
    except OSError as error:
        where = error.filename2 or error.filename or folder
        raise ConfigurationError(f"{where} can't be used ({error.strerror})") from error


def sync(folder: Path) -> None:
    """Make durable which files the folder has."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path) -> str:
    """Of the file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
