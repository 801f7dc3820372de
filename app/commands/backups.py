"""The commands on backups of the embedded PostgreSQL: `memory-driver backup` and `restore`."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import read_settings
from app.commands.reaching import Driver, chosen, run
from app.settings import DatabaseSettings, real

if TYPE_CHECKING:
    from app.drivers.pgvector.backups.manifest import Manifest

AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Gets a new folder with the backup.")
    ],
    driver: Driver = None,
    as_json: AsJson = False,
) -> None:
    """Back the embedded PostgreSQL up: all of it as it is at one moment, while a service runs."""
    database = chosen(read_settings(), driver)
    with _progress() as told:
        made, manifest = run(database, _back_up(database, folder, told))
    _tell(as_json, made, manifest, f"Backed up to {made}")


def restore(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A backup, or a folder of which to take the newest."),
    ],
    driver: Driver = None,
    as_json: AsJson = False,
) -> None:
    """Make the folder of the embedded PostgreSQL, which has no database yet, from a backup."""
    database = chosen(read_settings(), driver)
    taken, manifest = run(database, _restore(database, folder))
    _tell(as_json, taken, manifest, f"Restored {taken} to {real(database.data_dir)}")


async def _back_up(
    database: DatabaseSettings, folder: Path, told: Callable[[int], None]
) -> tuple[Path, "Manifest"]:
    from app.drivers.pgvector.backups.backup import back_up

    return await back_up(database, folder, told)


async def _restore(database: DatabaseSettings, folder: Path) -> tuple[Path, "Manifest"]:
    from app.drivers.pgvector.backups.restore import restore as make

    return await make(database, folder)


def _tell(as_json: bool, made: Path, manifest: "Manifest", done: str) -> None:
    memories, knowledge = manifest.rows("memories"), manifest.rows("global_knowledge")
    if as_json:
        facts = {
            "backup": str(made),
            "made_at": manifest.made_at.isoformat(),
            "bytes": manifest.size,
            "memories": memories,
            "knowledge": knowledge,
        }
        typer.echo(json.dumps(facts))
    else:
        held = f"{memories} memories, {knowledge} pieces of knowledge"
        typer.echo(f"{done}: {held}, {manifest.size / 1e6:.1f} MB.")


@contextmanager
def _progress() -> Iterator[Callable[[int], None]]:
    """On a terminal, show the bytes and how many come in a second."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        DownloadColumn,
        Progress,
        SpinnerColumn,
        TimeElapsedColumn,
        TransferSpeedColumn,
    )

    columns = (SpinnerColumn(), DownloadColumn(), TransferSpeedColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task("", total=None)
        yield lambda size: shown.update(task, completed=size)
