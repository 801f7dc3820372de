"""The command `memory-driver copy SOURCE TARGET`."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from app.commands import read_settings, refuse
from app.commands.collecting import collect_seldom
from app.commands.progress import shown
from app.core.memory.checks import read_moment
from app.core.memory.manager import MemoryDriverManager
from app.core.memory.record_driver import RecordDriver
from app.errors import InUse, InvalidInput, MemoryServiceError
from app.settings import Settings
from app.transfer.comparing import Compared
from app.transfer.copying import Copied, Verified, verify
from app.transfer.copying import copy as copy_records
from app.transfer.counting import count_memories
from app.transfer.repair import complete, refuse_shared_records
from app.transfer.state import State

_AGAIN_SECONDS = 60.0
"""How long a verification waits, all in all, for writes that are under way."""
_DIFFERENT = 3
"""The exit code where the two differ."""


def copy(
    source: Annotated[str, typer.Argument(help="The driver that has the records.")],
    target: Annotated[str, typer.Argument(help="The driver that is to get them.")],
    user: Annotated[
        str | None, typer.Option(help="The memories of this user alone.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="What was stored or changed since, as RFC 3339.", show_default=False),
    ] = None,
    verify: Annotated[
        bool, typer.Option(help="Compare all records afterwards; exit code 3 if they differ.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option(help="Compare only; exit code 3 if they differ.")
    ] = False,
    state: Annotated[
        Path | None,
        typer.Option(
            help="Where it is kept how far the copy is; by default a file in this folder.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: JSON objects, line by line.")
    ] = False,
) -> None:
    """Copy every record from SOURCE to TARGET, with ids, times, versions and expiry.

    Both are names of the configuration. What TARGET has in the same version, or in a later one,
    stays there. A copy that was killed goes on when it is made again. Services may run meanwhile,
    unless one has an embedded PostgreSQL that the command needs.
    """
    settings = read_settings()
    collect_seldom()
    file = state or Path(f"copy-{source}-{target}.state")
    work = _Copy(settings, source, target, user, _moment(since), file)
    try:
        found = asyncio.run(work.run(verify=verify or dry_run, dry_run=dry_run, as_json=as_json))
    except InUse as error:
        refuse(f"{error.reason}; if it is the service, stop it for the copy")
    except InvalidInput as error:
        refuse(str(error))
    except MemoryServiceError as error:
        refuse(error.reason)
    _tell(work, found, dry_run=dry_run, as_json=as_json)
    if found is not None and not found.none:
        raise typer.Exit(_DIFFERENT)


class _Copy:
    """The work of one command."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        target: str,
        user_id: str | None,
        since: datetime | None,
        file: Path,
    ) -> None:
        self.source, self.target = source, target
        self.told, self.compared = Copied(), Compared()
        self._settings = settings
        self._user_id, self._since, self._file = user_id, since, file
        self._total: int | None = None

    async def run(self, *, verify: bool, dry_run: bool, as_json: bool) -> Verified | None:
        """Copy, unless `dry_run`, and compare; what differs then."""
        if self.source == self.target:
            raise InvalidInput("name two different drivers")
        manager = MemoryDriverManager(self._settings)
        try:
            source = complete(manager.driver(self.source))
            target = complete(manager.driver(self.target))
            await source.open()
            await target.open()
            refuse_shared_records(source, target)
            counting = asyncio.create_task(self._count(source))
            try:
                if not dry_run:
                    with shown("copy", lambda: self.told.records, self._all, as_json=as_json):
                        await self._copy(source, target)
                if not verify:
                    return None
                with shown("verify", lambda: self.compared.records, self._all, as_json=as_json):
                    return await self._verify(source, target, wait=not dry_run)
            finally:
                counting.cancel()
        finally:
            await manager.close()

    def _all(self) -> int | None:
        return self._total

    async def _count(self, source: RecordDriver) -> None:
        self._total = await count_memories(source, self._user_id)

    async def _copy(self, source: RecordDriver, target: RecordDriver) -> None:
        about: dict[str, Any] = {
            "source": sorted(source.identity() or ()),
            "target": sorted(target.identity() or ()),
            "user": self._user_id,
            "since": None if self._since is None else self._since.isoformat(),
        }
        state = State.read(self._file, about)
        await copy_records(source, target, state, self._user_id, since=self._since, told=self.told)
        state.forget()

    async def _verify(self, source: RecordDriver, target: RecordDriver, *, wait: bool) -> Verified:
        again = _until(monotonic() + _AGAIN_SECONDS) if wait else None
        return await verify(
            source, target, self._user_id, since=self._since, told=self.compared, again=again
        )


def _until(late: float) -> Callable[[], Awaitable[bool]]:
    async def again() -> bool:
        await asyncio.sleep(0.2)
        return monotonic() < late

    return again


def _moment(text: str | None) -> datetime | None:
    try:
        return None if text is None else read_moment(text, "since")
    except InvalidInput as error:
        refuse(f"--{error}")


def _tell(work: _Copy, found: Verified | None, *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {"copied": work.told.records, "vectors": work.told.vectors}
        if found is not None:
            told |= {"compared": work.compared.records, "missing": found.missing}
            told |= {"different": found.different, "extra": found.extra}
            told["named"] = [
                {"what": what, "user_id": user_id, "id": one}
                for what, (user_id, one) in found.named
            ]
        typer.echo(json.dumps(told))
        return
    if not dry_run:
        how = "with their vectors" if work.told.vectors else "embedded anew"
        typer.echo(f"{work.target} got {work.told.records} records from {work.source}, {how}.")
    if found is None:
        return
    if found.none:
        said = f"{work.target} holds what {work.source} holds: {work.compared.records} records."
        typer.echo(said)
        return
    typer.echo(
        f"{work.target} lacks {found.missing}, has otherwise {found.different}, has too many "
        f"{found.extra}:"
    )
    for what, (user_id, one) in found.named:
        owner = "knowledge" if user_id is None else f"memory of {user_id!r}"
        typer.echo(f"  {what}: {owner} {one}")
