"""The commands on drivers: `memory-driver repair SOURCE TARGET`."""

import asyncio
from typing import Annotated, NoReturn

import typer

from app.core.memory.manager import MemoryDriverManager
from app.core.memory.repair import Difference
from app.core.memory.repair import repair as repair_drivers
from app.errors import MemoryServiceError
from app.logs import configure_logging
from app.settings import load_settings


def repair(
    source: Annotated[str, typer.Argument(help="The driver that is right.")],
    target: Annotated[str, typer.Argument(help="The driver to be mended.")],
    dry_run: Annotated[
        bool, typer.Option(help="Compare only; exit code 3 if they differ.")
    ] = False,
) -> None:
    """Compare two drivers record by record, and make TARGET hold what SOURCE holds.

    Both are names of the configuration. A service may run meanwhile.
    """
    try:
        settings = load_settings()
        configure_logging(settings)
        found = asyncio.run(_repair(MemoryDriverManager(settings), source, target, dry_run))
    except MemoryServiceError as error:
        _refuse(error.reason)
    did = ("lacks", "has otherwise", "has too many") if dry_run else ("got", "got anew", "lost")
    typer.echo(
        f"{target} {did[0]} {found.missing}, {did[1]} {found.different}, {did[2]} {found.extra}."
        if not found.none
        else f"{target} holds what {source} holds."
    )
    if dry_run and not found.none:
        raise typer.Exit(3)


async def _repair(
    manager: MemoryDriverManager, source: str, target: str, dry_run: bool
) -> Difference:
    if source == target:
        _refuse("name two different drivers")
    right, wrong = manager.driver(source), manager.driver(target)
    try:
        await right.open()
        await wrong.open()
        return await repair_drivers(right, wrong, dry_run=dry_run)
    finally:
        await manager.close()


def _refuse(reason: str) -> NoReturn:
    typer.echo(f"memory-driver: {reason}", err=True)
    raise typer.Exit(1)
