"""The commands on the journal: `memory-driver journal show|rename|drop`.

Only a command that runs imports what the journal needs: other drivers do without.
"""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from types import ModuleType
from typing import Annotated, Any, TypeVar

import typer

from app.commands import read_settings, refuse
from app.errors import MemoryServiceError
from app.journal.entries import Lag
from app.settings import TYPES, Settings, names_with_journal

T = TypeVar("T")

journal = typer.Typer(
    no_args_is_help=True,
    help="The writes that drivers of failover and replicated still have to get.",
)

Wrapper = Annotated[str, typer.Argument(help="The name of the driver that has the journal.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@journal.command()
def show() -> None:
    """Tell how many writes wait for which driver.

    Also for drivers that the configuration names no more. A file that a service has open can't be
    read: ask that service's /health. Exit code 1 where a file could not be read.
    """
    settings = read_settings()
    unread: dict[str, str] = {}
    found = _run(lambda upkeep: upkeep.all_waiting(settings.journal, unread=unread))
    have = names_with_journal(settings)
    for wrapper in sorted(have | {wrapper for wrapper, _ in found}):
        mine = {driver: lag for (each, driver), lag in found.items() if each == wrapper}
        for driver, lag in mine.items():
            typer.echo(f"{wrapper}: {_told(settings, wrapper, driver, lag)}")
        if not mine and wrapper not in unread:
            typer.echo(f"{wrapper}: nothing waits")
    if not have and not found and not unread:
        typer.echo("No driver of the configuration has a journal.")
    if unread:
        refuse("\nmemory-driver: ".join(unread.values()))


@journal.command()
def rename(
    wrapper: Wrapper,
    old: Annotated[str, typer.Argument(help="Who is not held any more.")],
    new: Annotated[str, typer.Argument(help="Who is held instead.")],
) -> None:
    """Let NEW get what waits for OLD: the same driver by another name, or one in its place."""
    settings = read_settings()
    _check_wrapper(settings, wrapper)
    held = settings.named[wrapper].inner if wrapper in settings.named else ()
    if new not in held:
        refuse(f"drivers.{wrapper}.inner: '{new}' is not held")
    if old in held:
        refuse(f"drivers.{wrapper}.inner: '{old}' is still held: take it out first")
    count = _run(lambda upkeep: upkeep.rename(settings.journal, wrapper, old, new))
    typer.echo(f"{Lag(count)} for '{new}' now." if count else f"Nothing waits for '{old}'.")


@journal.command()
def drop(
    wrapper: Wrapper,
    driver: Annotated[str, typer.Argument(help="Who is not to get them.")],
    yes: Yes = False,
) -> None:
    """Give up what waits for DRIVER."""
    settings = read_settings()
    _check_wrapper(settings, wrapper)
    lag = _run(lambda upkeep: upkeep.all_waiting(settings.journal, wrapper)).get(
        (wrapper, driver), Lag()
    )
    if lag.count and not yes:
        typer.confirm(f"{lag} for '{driver}', which will never get them. Go on?", abort=True)
    count = _run(lambda upkeep: upkeep.drop(settings.journal, wrapper, driver))
    typer.echo(f"Given up: {count}." if count else f"Nothing waits for '{driver}'.")


def _check_wrapper(settings: Settings, wrapper: str) -> None:
    """End the command for a name that no driver with a journal has, or had."""
    declared = settings.named.get(wrapper)
    if declared is not None and declared.type not in TYPES:  # somebody's own: it may have one
        return
    known = names_with_journal(settings) | _run(
        lambda upkeep: upkeep.with_journal(settings.journal)
    )
    if wrapper not in known:
        said = f"there are {', '.join(sorted(known))}" if known else "no driver has one"
        refuse(f"'{wrapper}' is no driver with a journal; {said}")


def _told(settings: Settings, wrapper: str, driver: str, lag: Lag) -> str:
    said = f"{lag} for '{driver}', the oldest for {timedelta(seconds=int(lag.oldest))}"
    if lag.dead_letters:
        said += f", {lag.dead_letters} refused"
    if wrapper not in settings.named:
        said += f"; drivers.{wrapper} is not configured any more"
    elif driver not in settings.named[wrapper].inner:
        said += f"; '{driver}' is not held any more"
    return said


def _run(work: Callable[[ModuleType], Coroutine[Any, Any, T]]) -> T:
    """What the work does with `upkeep`; ends the command where it fails."""
    try:
        from app.journal import upkeep

        return asyncio.run(work(upkeep))
    except ModuleNotFoundError as error:
        refuse(f"this needs {error.name}: pip install 'memory-driver-service[journal]'")
    except MemoryServiceError as error:
        refuse(error.reason)
