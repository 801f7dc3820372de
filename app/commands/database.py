"""The commands on the database: `memory-driver index status|rebuild` and `words rebuild`.

Only a command that runs imports what PostgreSQL needs: other drivers do without.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from app.commands import read_settings, refuse
from app.commands.reaching import Driver, chosen, run
from app.errors import DriverError
from app.settings import DatabaseSettings

if TYPE_CHECKING:
    import asyncpg

    from app.drivers.pgvector import indexes

index = typer.Typer(no_args_is_help=True, help="The vector index of the knowledge in PostgreSQL.")

words = typer.Typer(no_args_is_help=True, help="The words of the memories in PostgreSQL.")


@index.command()
def status(
    driver: Driver = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell whether the index fits the rows; exit code 3 when it is stale."""
    database = chosen(read_settings(), driver)
    state = run(database, _status(database))
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
            named = "" if driver is None else f" --driver {driver}"
            typer.echo(f"stale: {state.stale}; run `memory-driver index rebuild{named}`")
    if state.stale:
        raise typer.Exit(3)


@index.command()
def rebuild(
    driver: Driver = None,
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
    database = chosen(read_settings(), driver)
    wanted: indexes.Kind = (
        database.index if kind is None else "hnsw" if kind == "hnsw" else "ivfflat"
    )
    if not run(database, _rebuild(database, wanted, workers)):
        refuse("another process rebuilds the index right now")
    state = run(database, _status(database))
    lists = f" with {state.lists} lists" if state.lists else ""
    typer.echo(f"The index is {state.kind}{lists}, for {state.rows} rows.")
    if wanted != database.index:
        typer.echo(f"Set {database.called('index')}={wanted}, or /health calls the index stale.")


@words.command("rebuild")
def rebuild_words(
    language: Annotated[
        str | None, typer.Argument(help="In place of MEMORY_RECALL_LANGUAGE.", show_default=False)
    ] = None,
    driver: Driver = None,
) -> None:
    """Split the stored memories into words anew; recalls go on meanwhile, stores wait."""
    settings = read_settings()
    wanted = language or settings.recall.language
    database = chosen(settings, driver)
    count = run(database, _rebuild_words(database, wanted))
    typer.echo(f"The words of {count} memories are {wanted}.")
    if wanted != settings.recall.language:
        typer.echo(f"Set MEMORY_RECALL_LANGUAGE={wanted}, or the service refuses to start.")


async def _rebuild_words(database: DatabaseSettings, language: str) -> int:
    from app.drivers.pgvector.words import rebuild

    async with _connected(database) as (connection, _):
        return await rebuild(connection, language)


async def _status(database: DatabaseSettings) -> "indexes.IndexState":
    from app.drivers.pgvector import indexes

    async with _connected(database) as (connection, _):
        return await indexes.inspect(
            connection, database.index, setting=database.called("index"), count=True
        )


async def _rebuild(database: DatabaseSettings, kind: "indexes.Kind", workers: int) -> bool:
    from app.drivers.pgvector import indexes

    async with _connected(database) as (_, dsn):
        return await indexes.rebuild(dsn, kind, workers=workers)


@asynccontextmanager
async def _connected(
    database: DatabaseSettings,
) -> AsyncIterator[tuple["asyncpg.Connection[asyncpg.Record]", str]]:
    """A connection and its DSN. Failures are `MemoryServiceError`s that name the setting."""
    from app.drivers.pgvector.access import reached
    from app.drivers.pgvector.connecting import connect
    from app.drivers.pgvector.errors import backend_errors

    async with reached(database) as dsn:
        connection = await connect(database, dsn)
        try:
            with backend_errors():
                yield connection, dsn
        except DriverError as error:
            raise type(error)(reason=f"{database.called('url')}: {error.reason}") from (
                error.__cause__
            )
        finally:
            connection.terminate()


def _shown(lists: int | None) -> str:
    return "-" if lists is None else str(lists)
