"""The commands on the database: `memory-driver index status|rebuild`, and `memory-driver language`.

Only a command that runs imports what PostgreSQL needs: other drivers do without.
"""

import asyncio
import json
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from app.commands import read_settings, refuse
from app.errors import MemoryServiceError
from app.settings import Settings

if TYPE_CHECKING:
    from app.database import indexes

T = TypeVar("T")

_CONNECT_SECONDS = 10.0

index = typer.Typer(no_args_is_help=True, help="The vector index of the knowledge in PostgreSQL.")


@index.command()
def status(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell whether the index fits the rows; exit code 3 when it is stale."""
    settings = read_settings()
    state = _run(_status(settings))
    if as_json:
        typer.echo(json.dumps(state.facts()))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table("", "is", "should be")
        table.add_row("kind", state.kind or "none", state.wanted_kind)
        table.add_row("lists", _shown(state.lists), _shown(state.wanted_lists))
        table.add_row("valid", str(state.valid).lower(), "true")
        table.add_row("rows", str(state.rows), "")
        table.add_row("size, MB", f"{state.size / 1e6:.1f}", "")
        table.add_row("left behind", ", ".join(state.leftovers) or "none", "none")
        Console(soft_wrap=True).print(table)
        if state.stale:
            typer.echo(f"stale: {state.stale}; run `memory-driver index rebuild`")
    if state.stale:
        raise typer.Exit(3)


@index.command()
def rebuild(
    kind: Annotated[
        str | None, typer.Option(help="ivfflat or hnsw, in place of DATABASE_INDEX.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, max=64, help="Processes that help PostgreSQL's to build.")
    ] = 0,
) -> None:
    """Build the index for the rows of now; reads and writes go on meanwhile."""
    if kind not in (None, "ivfflat", "hnsw"):
        refuse("--kind: must be ivfflat or hnsw")
    settings = read_settings()
    wanted: indexes.Kind = (
        settings.database.index if kind is None else "hnsw" if kind == "hnsw" else "ivfflat"
    )
    if not _run(_rebuild(settings, wanted, workers)):
        refuse("another process rebuilds the index right now")
    state = _run(_status(settings))
    lists = f" with {state.lists} lists" if state.lists else ""
    typer.echo(f"The index is {state.kind}{lists}, for {state.rows} rows.")
    if wanted != settings.database.index:
        typer.echo(f"Set DATABASE_INDEX={wanted}, or /health calls the index stale.")


def language(
    name: Annotated[
        str | None, typer.Argument(help="In place of MEMORY_RECALL_LANGUAGE.", show_default=False)
    ] = None,
) -> None:
    """Split the stored memories into words anew, by another language; stop the service before."""
    settings = read_settings()
    wanted = name or settings.recall.language
    count = _run(_change_language(settings, wanted))
    typer.echo(f"The words of {count} memories are {wanted}.")
    if wanted != settings.recall.language:
        typer.echo(f"Set MEMORY_RECALL_LANGUAGE={wanted}, or the service refuses to start.")


async def _change_language(settings: Settings, name: str) -> int:
    import asyncpg

    from app.database.access import reached
    from app.database.language import change

    async with reached(settings.database) as dsn:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
        try:
            return await change(connection, name)
        finally:
            connection.terminate()


async def _status(settings: Settings) -> "indexes.IndexState":
    import asyncpg

    from app.database import indexes
    from app.database.access import reached

    async with reached(settings.database) as dsn:
        connection = await asyncpg.connect(dsn, timeout=_CONNECT_SECONDS)
        try:
            return await indexes.inspect(connection, settings.database.index, count=True)
        finally:
            connection.terminate()


async def _rebuild(settings: Settings, kind: "indexes.Kind", workers: int) -> bool:
    from app.database import indexes
    from app.database.access import reached

    async with reached(settings.database) as dsn:
        return await indexes.rebuild(dsn, kind, workers=workers)


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        from asyncpg import UndefinedTableError

        from app.core.memory.drivers.pgvector.errors import backend_errors
    except ModuleNotFoundError as error:
        work.close()
        refuse(f"this needs {error.name}: pip install 'memory-driver-service[pgvector]'")
    try:
        with backend_errors():
            return asyncio.run(work)
    except MemoryServiceError as error:
        if isinstance(error.__cause__, UndefinedTableError):
            refuse("the schema is not there: run `alembic upgrade head`")
        refuse(error.reason)


def _shown(lists: int | None) -> str:
    return "-" if lists is None else str(lists)
