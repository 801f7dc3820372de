"""The commands on files: `memory-driver export FILE` and `memory-driver import FILE`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from app.commands import read_settings, refuse
from app.commands.collecting import collect_seldom
from app.commands.progress import shown
from app.core.memory.checks import read_moment
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.record_driver import RecordDriver
from app.core.memory.six_verbs import record_driver
from app.errors import InUse, InvalidInput, MemoryServiceError
from app.settings import Settings
from app.transfer.counting import count_memories
from app.transfer.exporting import export_lines
from app.transfer.files import STANDARD, opened, pieces, written
from app.transfer.foreign.forms import FORMS, records_in
from app.transfer.foreign.mapping import Said
from app.transfer.importing import Imported, import_lines, import_records
from app.transfer.lines import Ending

T = TypeVar("T")

File = Annotated[str, typer.Argument(help="A file, compressed where it ends in .gz or .zst; or -.")]
Driver = Annotated[
    str | None,
    typer.Option(help="Of which driver, by name, in place of MEMORY_DRIVER.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: JSON objects, line by line.")]


def export(
    file: File,
    driver: Driver = None,
    user: Annotated[
        str | None, typer.Option(help="The memories of this user alone.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="What was stored or changed since, as RFC 3339.", show_default=False),
    ] = None,
    vectors: Annotated[
        bool, typer.Option(help="With the vectors: an import by the same model is quicker.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write every record into FILE as JSON lines, ended by a line of counts and a digest.

    A service may run meanwhile, unless the command needs its embedded PostgreSQL or the file of its
    journal: then ask the service, by GET /v1/export.
    """
    settings = read_settings()
    ending, total = Ending(), _Total()

    async def work(chosen: RecordDriver) -> None:
        counting = asyncio.create_task(total.count(chosen, user))
        moment = _moment(since)
        try:
            with written(file) as out:
                lines = export_lines(chosen, user, since=moment, vectors=vectors, ending=ending)
                async for piece in lines:
                    await asyncio.to_thread(out.write, piece)
        finally:
            counting.cancel()

    with shown("export", lambda: ending.counts.total, lambda: total.records, as_json=as_json):
        _run(settings, driver, work, "GET /v1/export")
    counts = ending.counts
    told = {"memories": counts.memories, "knowledge": counts.knowledge}
    said = f"{file} has {counts.memories} memories and {counts.knowledge} records of knowledge."
    typer.echo(json.dumps(told) if as_json else said, err=file == STANDARD)


def import_(
    file: File,
    driver: Driver = None,
    form: Annotated[
        str,
        typer.Option(help=f"What made the file: export, or {', '.join(FORMS)}."),
    ] = "export",
    maps: Annotated[
        list[str] | None,
        typer.Option("--map", help="FIELD=PATH: where a field is in another program's file."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE: a field of every record of such a file."),
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Read and check the file only.")] = False,
    as_json: AsJson = False,
) -> None:
    """Keep the records of FILE: each is inserted, or replaces an older version of itself.

    A file is checked as a whole before anything is kept. The same import again changes nothing, so
    one that was killed is made again. A service may run meanwhile, unless the command needs its
    embedded PostgreSQL or the file of its journal: then ask the service, by POST /v1/import.
    """
    settings = read_settings()
    limits = settings.limits.widened()
    checked, told = Imported(), Imported()
    said = _said(form, maps, sets)
    now = _made(file)

    async def read(chosen: RecordDriver, told: Imported, *, dry_run: bool) -> None:
        with opened(file) as source:
            if form == "export":
                chunks = pieces(source, file)
                await import_lines(chosen, chunks, limits, told=told, dry_run=dry_run)
            else:
                records = records_in(form, source, file, said, now, limits)
                await import_records(chosen, records, told=told, dry_run=dry_run)

    async def work(chosen: RecordDriver) -> None:
        if file != STANDARD or dry_run:
            await read(chosen, checked, dry_run=True)
        if not dry_run:
            await read(chosen, told, dry_run=False)

    with shown("import", lambda: told.kept.total, lambda: checked.kept.total, as_json=as_json):
        _run(settings, driver, work, "POST /v1/import")
    counts = (checked if dry_run else told).kept
    if as_json:
        typer.echo(json.dumps({"memories": counts.memories, "knowledge": counts.knowledge}))
        return
    did = "would be" if dry_run else "are"
    typer.echo(f"{counts.memories} memories and {counts.knowledge} records of knowledge {did} in.")
    if told.own_vectors is False and not dry_run:
        typer.echo("The vectors of the file are another model's; they were made anew.", err=True)


def _said(form: str, maps: list[str] | None, sets: list[str] | None) -> Said:
    """What the command line says of another program's file; ends the command where it is wrong."""
    if form != "export" and form not in FORMS:
        refuse(f"--form: {form!r} is none of export, {', '.join(FORMS)}")
    if form == "export" and (maps or sets):
        refuse("--map and --set are for files of other programs: say --form, too")
    try:
        return Said.of(maps or (), sets or ())
    except InvalidInput as error:
        refuse(str(error))


def _made(file: str) -> datetime:
    """When what does not say so was created: the same for each import of the same file."""
    try:
        return datetime.fromtimestamp(int(Path(file).stat().st_mtime), UTC)
    except OSError:  # standard input; a file that is not there is told of later
        return datetime.now(UTC)


class _Total:
    """How many records there are, once somebody has counted."""

    records: int | None = None

    async def count(self, driver: RecordDriver, user_id: str | None) -> None:
        self.records = await count_memories(driver, user_id)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else read_moment(text, "since")


def _run(
    settings: Settings,
    name: str | None,
    work: Callable[[RecordDriver], Awaitable[None]],
    instead: str,
) -> None:
    """Do the work with the open driver; ends the command where that fails."""
    collect_seldom()

    async def run() -> None:
        async with _opened(settings, name) as driver:
            await work(driver)

    try:
        asyncio.run(run())
    except InUse as error:
        refuse(f"{error.reason}; if it is the service, ask it instead: {instead}")
    except InvalidInput as error:
        refuse(str(error))
    except MemoryServiceError as error:
        refuse(error.reason)
    except BrokenPipeError:
        raise typer.Exit(1) from None


@asynccontextmanager
async def _opened(settings: Settings, name: str | None) -> AsyncIterator[RecordDriver]:
    manager = MemoryDriverManager(settings)
    driver = record_driver(manager.driver(name), settings.limits.widened())
    try:
        await driver.open()
        yield driver
    finally:
        await manager.close()
