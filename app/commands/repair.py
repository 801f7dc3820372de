"""The commands on drivers: `memory-driver repair SOURCE TARGET`."""

import asyncio
from typing import Annotated

import typer

from app.commands import read_settings, refuse
from app.core.memory.manager import MemoryDriverManager
from app.errors import InUse, MemoryServiceError
from app.transfer.repair import Difference, repair_named


def repair(
    source: Annotated[str, typer.Argument(help="The driver that is right.")],
    target: Annotated[str, typer.Argument(help="The driver to be mended.")],
    dry_run: Annotated[
        bool, typer.Option(help="Compare only; exit code 3 if they differ.")
    ] = False,
) -> None:
    """Compare two drivers record by record, and make TARGET hold what SOURCE holds.

    Both are names of the configuration. A service may run meanwhile, unless they need its embedded
    PostgreSQL or the file of its journal: then ask the service, by POST /v1/admin/repair.
    """
    settings = read_settings()
    try:
        found = asyncio.run(_repair(MemoryDriverManager(settings), source, target, dry_run))
    except InUse as error:
        refuse(f"{error.reason}; if it is the service, ask it instead: POST /v1/admin/repair")
    except MemoryServiceError as error:
        refuse(error.reason)
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
        refuse("name two different drivers")
    right, wrong = manager.driver(source), manager.driver(target)
    try:
        await right.open()
        await wrong.open()
        return await repair_named(manager.built(), source, target, dry_run=dry_run)
    finally:
        await manager.close()
