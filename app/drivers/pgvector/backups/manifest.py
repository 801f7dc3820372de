"""What a backup says about itself, and finding one."""

import os
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from app.errors import ConfigurationError
from app.private import open_private

FORMAT = 1
UNFINISHED = ".unfinished"
"""How the name of a backup ends until it is finished."""
DUMP = "database.dump"
"""pg_dump's file, in its custom format."""
_MANIFEST = "backup.json"


class Table(BaseModel):
    """What a table holds: how many rows, and a digest of them in whatever order."""

    rows: int
    digest: str


class Manifest(BaseModel):
    """What is beside a dump."""

    model_config = ConfigDict(frozen=True)

    format: int
    made_at: datetime
    service: str
    """The version of the service."""
    postgresql: str
    """The version of PostgreSQL."""
    size: int
    """Of the dump, in bytes."""
    sha256: str
    """Of the dump."""
    tables: dict[str, Table]
    """By schema and name, of the same moment as the dump."""

    def rows(self, table: str) -> int:
        """How many rows that table of the service has; 0 where there is none."""
        found = self.tables.get(f"public.{table}")
        return 0 if found is None else found.rows

    def write(self, backup: Path) -> None:
        """Into the backup's folder, durably."""
        with open(open_private(backup / _MANIFEST, os.O_WRONLY), "w") as file:
            file.write(self.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())


def found(folder: Path) -> tuple[Path, Manifest]:
    """The backup that `folder` is or, of those in it, the newest.

    Raises `ConfigurationError` where there is no finished one, or one that can't be read.
    """
    backups = [folder, *sorted(_inside(folder), reverse=True)]
    newest = next((each for each in backups if (each / _MANIFEST).is_file()), None)
    if newest is None:
        raise ConfigurationError(f"{folder} has no finished backup")
    try:
        manifest = Manifest.model_validate_json((newest / _MANIFEST).read_bytes())
    except ValidationError:
        raise ConfigurationError(f"{newest} is damaged: {_MANIFEST} is none") from None
    if manifest.format != FORMAT:
        raise ConfigurationError(
            f"{newest} is of another version of the service: restore it with {manifest.service}"
        )
    return newest, manifest


def _inside(folder: Path) -> list[Path]:
    return [each for each in folder.iterdir() if not each.name.endswith(UNFINISHED)]
