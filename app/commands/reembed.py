"""The command `memory-driver reembed --model NAME`."""

import asyncio
import json
from contextlib import suppress
from typing import Annotated

import typer

from app.commands import read_settings, refuse
from app.commands.progress import shown
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.reembedding import Reembedding
from app.errors import CapabilityMissing, MemoryServiceError
from app.settings import TYPES, Settings, below
from app.tasks import end
from app.transfer.reembed import Reembedded, call_off
from app.transfer.reembed import reembed as reembed_records
from app.transfer.repair import complete

_LOOK_SECONDS = 0.5


def reembed(
    model: Annotated[
        str | None,
        typer.Option(help="The new model, as MEMORY_EMBEDDING_MODEL takes it.", show_default=False),
    ] = None,
    driver: Annotated[
        str | None,
        typer.Option(help="Whose records, by name; needed where several drivers are in use."),
    ] = None,
    call_off: Annotated[
        bool, typer.Option("--call-off", help="Leave all as it is, and delete the new vectors.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Switch, whatever service can't load the model.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: JSON objects, line by line.")
    ] = False,
) -> None:
    """Bring all records to another model while services go on; they keep the old one until the end.

    A command that was killed goes on when it is run again. The setting MEMORY_EMBEDDING_MODEL stays
    as it is until then: services find the new model by themselves.
    """
    if (model is None) != call_off:
        refuse("give either --model or --call-off")
    settings = read_settings()
    name = _chosen(settings, driver)
    told = Reembedded()
    try:
        was = asyncio.run(_reembed(settings, name, model, told, force=force, as_json=as_json))
    except MemoryServiceError as error:
        refuse(error.reason)
    _tell(name, model, told, called_off=was, as_json=as_json)


def _chosen(settings: Settings, driver: str | None) -> str:
    """The driver that keeps the records that are meant; ends the command unless it is one."""
    used = {settings.driver, *below(settings.named, settings.driver)}

    def wraps(name: str) -> bool:
        kind = settings.named[name].type if name in settings.named else name
        return kind in TYPES and TYPES[kind].wraps

    keeping = sorted(name for name in used if not wraps(name))
    if driver is not None:
        return driver
    if len(keeping) != 1:
        refuse(f"--driver: say whose records are meant: {', '.join(keeping)}")
    return keeping[0]


async def _reembed(
    settings: Settings,
    name: str,
    model: str | None,
    told: Reembedded,
    *,
    force: bool,
    as_json: bool,
) -> bool:
    """Do it, or call it off without a model; whether something was called off."""
    manager = MemoryDriverManager(settings)
    try:
        driver = complete(manager.driver(name))
        work = driver.reembedding(manager.embedder_of(model or settings.embedding.model))
        if work.in_process:
            raise CapabilityMissing(
                f"The records of {name!r} are in the service alone: ask it, by "
                "POST /v1/admin/reembed"
            )
        try:
            await work.open()
            if model is None:
                return await call_off(work)
            with shown("reembed", lambda: told.done, lambda: told.records, as_json=as_json):
                await _watched(work, told, force=force, as_json=as_json)
            return False
        finally:
            await work.close()
    finally:
        await manager.close()


async def _watched(work: Reembedding, told: Reembedded, *, force: bool, as_json: bool) -> None:
    """Do it, and say on standard error what it waits for."""
    watcher = asyncio.create_task(_say_why(told, as_json=as_json))
    try:
        await reembed_records(work, told, force=force)
    finally:
        await end(watcher)


async def _say_why(told: Reembedded, *, as_json: bool) -> None:
    said = None
    while True:
        if told.waiting is not None and told.waiting != said:
            said = told.waiting
            line = json.dumps({"command": "reembed", "step": told.step, "waiting": said})
            with suppress(OSError):
                typer.echo(line if as_json else f"it waits: {said}", err=True)
        await asyncio.sleep(_LOOK_SECONDS)


def _tell(
    name: str, model: str | None, told: Reembedded, *, called_off: bool, as_json: bool
) -> None:
    if as_json:
        found = {"called_off": called_off} if model is None else {"model": model}
        typer.echo(json.dumps({"driver": name, "records": told.records, **found}))
    elif model is None:
        what = "is called off" if called_off else "does not go on"
        typer.echo(f"Another model for {name} {what}: its records keep the vectors they have.")
    else:
        typer.echo(
            f"The records of {name} have the vectors of {model} now. Set "
            f"MEMORY_EMBEDDING_MODEL={model} for every service before it starts again."
        )
