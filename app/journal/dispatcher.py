"""The dispatcher: it brings one driver what is pending, for as long as the process lives."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import groupby
from time import monotonic
from typing import TypeAlias

from app.core.memory.once import is_same
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Record, is_alive, key_of, latest
from app.core.memory.requests import Delete, Forget, Keep, Kind, Replace
from app.errors import (
    ConfigurationError,
    Conflict,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
)
from app.journal.entries import Entry, Write, as_put
from app.journal.journal import Journal
from app.logs import get_logger
from app.tasks import end, postponing

_AT_ONCE = 200
"""Entries read at once."""
_RECORDS = 500
"""Records given to a driver at once, unless one entry has more."""
_WAIT_SECONDS = (0.2, 30.0)
"""The first and the longest wait for a driver that does not answer; each is twice the last."""
_HEALTH_SECONDS = 10.0
_UPKEEP_SECONDS = 3_600.0

OnPiece: TypeAlias = Callable[[], None]
"""Called after each piece that a driver deletes, as `Forget` says."""

_log = get_logger(__name__)


class Dispatcher:
    """Delivers to one driver, the oldest writes first. Processes that share a journal take turns.

    The dispatcher tries a write alone that a healthy driver refuses, then makes it a dead letter,
    so that later writes do not wait for it. It tries dead letters again at every start, each hour,
    and after a repair.
    """

    def __init__(
        self,
        journal: Journal,
        driver: RecordDriver,
        *,
        wrapper: str,
        interval: float,
        timeout: float,
        after: str | None = None,
        delivered: Callable[[], None] = lambda: None,
    ) -> None:
        """`interval`: seconds between two looks at the journal; `timeout`: of one delivery.

        `after`: the driver that must have each write before this one gets it. `delivered` is called
        when this driver has a write, before the journal drops it.
        """
        self._delivered = delivered
        self._journal = journal
        self._driver = driver
        self._wrapper = wrapper
        self._interval = interval
        self._timeout = timeout
        self._after = after
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False
        self._most = _RECORDS
        self._kept_up = monotonic()

    def start(self) -> None:
        """Deliver from now on; twice is harmless."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; a delivery that this cuts off is made again later."""
        task, self._task = self._task, None
        await end(task)

    def wake(self, *, back: bool = False) -> None:
        """Look for what is pending now; a driver that failed keeps its pause unless `back`."""
        if back or not self._failing:
            self._wake.set()

    async def try_again(self) -> None:
        """Try the driver's dead letters once more."""
        await self._journal.retry_dead_letters(self._driver.name)
        self._wake.set()

    async def _run(self) -> None:
        first, longest = _WAIT_SECONDS
        wait = first
        while True:
            self._wake.clear()
            try:
                more = await self.deliver()
            except MemoryServiceError as error:
                self._report(error)
                await self._rest(wait * random.uniform(0.8, 1.2))  # noqa: S311 - no secret
                wait = min(2 * wait, longest)
            except Exception:  # noqa: BLE001 - a driver may raise anything; the next call may work
                _log.exception("delivery_failed", driver=self._driver.name, wrapper=self._wrapper)
                await self._rest(longest)
            else:
                self._report(None)
                wait = first
                if not more:
                    await self._rest(self._interval)

    async def _rest(self, seconds: float) -> None:
        # Not `wait_for`: in Python 3.11 it may lose the cancellation that `stop` asks for.
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _report(self, error: MemoryServiceError | None) -> None:
        failing = error is not None
        if failing != self._failing:
            self._failing = failing
            event = "delivery_waits" if failing else "delivery_goes_on"
            reason = error.reason if error is not None else None
            _log.warning(event, driver=self._driver.name, wrapper=self._wrapper, reason=reason)

    async def deliver(self) -> bool:
        """Deliver what is pending; whether there may be more.

        Raises what the driver or the journal raises.
        """
        name = self._driver.name
        async with self._journal.claim(name) as claim:
            if claim is None:
                return False
            due = await self._journal.to_deliver(name, self._after, _AT_ONCE)
            for group in _groups(due, self._most):
                if not group[0].stores:  # out of turn it might undo an import
                    await claim()
                await self._deliver(group)
        if not due and monotonic() - self._kept_up > _UPKEEP_SECONDS:
            self._kept_up = monotonic()
            await self._journal.drop_tombstones()
            await self.try_again()
        return len(due) == _AT_ONCE

    async def _deliver(self, group: list[Entry]) -> None:
        try:
            async with asyncio.timeout(self._timeout) as limit:
                await self._make(group, postponing(limit, self._timeout))
        except (TimeoutError, DriverTimeout, DriverUnavailable) as error:
            if isinstance(error, TimeoutError | DriverTimeout):
                self._most = max(1, self._most // 4)  # what was too much would be so again
            if isinstance(error, TimeoutError):
                raise DriverTimeout(reason="no answer in time") from error
            raise
        except Exception as error:  # whatever it is, it must not hold up the rest
            if len(group) > 1:
                for entry in group:
                    await self._deliver([entry])
                return
            reason = error.reason if isinstance(error, MemoryServiceError) else repr(type(error))
            if not await self._is_healthy() or isinstance(error, ConfigurationError):
                raise DriverUnavailable(reason=reason) from error  # it is not about the write
            _log.error(
                "delivery_refused",
                driver=self._driver.name,
                wrapper=self._wrapper,
                verb=group[0].verb,
                seq=group[0].seq,
                reason=reason,
                exc_info=None if isinstance(error, MemoryServiceError) else error,
            )
            await self._journal.refuse(group[0], self._driver.name)
            return
        self._most = min(_RECORDS, 2 * self._most)
        self._delivered()
        await self._journal.settle(group, [self._driver.name])

    async def _is_healthy(self) -> bool:
        try:
            async with asyncio.timeout(_HEALTH_SECONDS):
                return (await self._driver.health_check()).status != "unavailable"
        except TimeoutError:
            return False

    async def _make(self, group: list[Entry], on_piece: OnPiece) -> None:
        first = group[0]
        if first.verb == "put_document":
            await put(self._driver, self._journal, first)
        elif not first.stores:
            await make(self._driver, group, on_piece)
        elif first.once and self._after is None:
            await self._keep_once(group, on_piece)
        elif first.replaces is not None and self._after is None:
            await self._decide(first, first.replaces, on_piece)
        else:
            await keep(self._driver, self._journal, group, on_piece)

    async def _decide(self, update: Entry, replaces: datetime, on_piece: OnPiece) -> None:
        """Make the update if the driver still has what it replaces; else nobody gets it.

        The driver's own `_replace` tells whether it was made before: a read may be another's.
        """
        (record,) = update.records
        driver = self._driver
        dead = await self._journal.dead([update], driver.name)
        if not dead:
            made = await driver._replace(Replace(record, replaces)) or await driver._replace(
                Replace(record, record.updated_at)
            )
            if not made and await self._journal.withdraw(update):
                return
            if not made:  # it was accepted meanwhile
                await keep(driver, self._journal, [update], on_piece)
                return
            dead = await self._journal.dead([update], driver.name)
        await delete_dead(driver, self._journal, dead, on_piece)

    async def _keep_once(self, group: list[Entry], on_piece: OnPiece) -> None:
        """Keep each record where nothing is under its id; of the others nobody gets theirs.

        A record that had expired gave its id to the next one.
        """
        driver = self._driver
        dead = await self._journal.dead(group, driver.name)
        alive = [entry for entry in group if not _is_deleted(entry.records[0], dead)]
        now = self._journal.clock.now()
        first: dict[Key, Entry] = {}
        for entry in alive:
            same = first.setdefault(key_of(entry.records[0]), entry)
            if not is_alive(same.records[0], now):
                first[key_of(entry.records[0])] = entry
        there: dict[Key, Record] = {}
        if first:
            wanted = [entry.records[0] for entry in first.values()]
            try:
                kept = await driver._keep(Keep(wanted, once=True))
                there = dict(zip(first, kept, strict=True))
            except Conflict:
                if len(first) > 1:  # each alone, then
                    raise
            dead = await self._journal.dead(group, driver.name)
        for entry in alive:
            (record,) = entry.records
            found = there.get(key_of(record))
            if found is not None and is_same(found, record):
                continue
            if is_alive(record, now) and (found is None or found.request != record.request):
                _log.warning(
                    "delivery_dropped",
                    driver=driver.name,
                    wrapper=self._wrapper,
                    seq=entry.seq,
                    reason="something else was stored under its id",
                )
            if not await self._journal.withdraw(entry):  # it was accepted meanwhile
                await keep(driver, self._journal, [entry], on_piece)
        await delete_dead(driver, self._journal, dead, on_piece)


def _nothing() -> None:
    pass


async def keep(
    driver: RecordDriver, journal: Journal, stored: Sequence[Entry], on_piece: OnPiece = _nothing
) -> None:
    """Keep the records on the driver, but for those that have a tombstone.

    What gets a tombstone meanwhile is deleted again, as `make` does it. So is an update that a put
    of its document replaces: the driver may have a version of the record that was of no document.
    """
    dead = await journal.dead(stored, driver.name)
    last = latest((record for entry in stored for record in entry.records), key_of)
    by_id = [each for each in dead if each.doc_id is None]
    alive = [
        record
        for record in last.values()
        if not _is_deleted(record, dead if record.updated_at == record.created_at else by_id)
    ]
    if alive:
        await driver._keep(Keep(alive))
        dead = await journal.dead(stored, driver.name)
    await delete_dead(driver, journal, dead, on_piece)


async def put(driver: RecordDriver, journal: Journal, entry: Entry) -> int:
    """Replace the document on the driver; how many records gave way.

    A record of the put that has a tombstone is left out, or deleted again where it gets the
    tombstone meanwhile. Where the document was put again since, that put is made instead.
    """
    deleted = 0
    dead = await journal.dead([entry], driver.name)
    if not any(each.doc_id is not None for each in dead):
        _, deleted = await driver._put(as_put(entry.without(dead)))
        dead = await journal.dead([entry], driver.name)
    await delete_dead(driver, journal, dead)
    return deleted


async def delete_dead(
    driver: RecordDriver,
    journal: Journal,
    dead: Iterable[Entry],
    on_piece: OnPiece = _nothing,
) -> None:
    """Delete what has a tombstone; of a put that this makes, what gets one meanwhile."""
    while dead := [*dead]:
        await make(driver, dead, on_piece)
        puts = [each for each in dead if each.records]
        dead = await journal.dead(puts, driver.name) if puts else []


def _is_deleted(record: Record, deletes: Sequence[Write]) -> bool:
    return any(each.deletes(record) for each in deletes)


async def make(
    driver: RecordDriver, deletes: Iterable[Write], on_piece: OnPiece = _nothing
) -> None:
    """Make the deletes on the driver; `on_piece` is called as `Forget` says."""
    ids: dict[tuple[Kind, str | None], dict[str, None]] = {}
    for each in deletes:
        if each.verb == "put_document":
            await driver._put(as_put(each))
        elif each.verb == "delete_user":
            await driver._forget(Forget(each.user_id or "", each.before, on_piece))
        else:
            kind: Kind = "memory" if each.verb == "delete" else "knowledge"
            ids.setdefault((kind, each.user_id), {})[each.record_id or ""] = None
    for (kind, user_id), own in ids.items():
        await driver._delete(Delete(kind, tuple(own), user_id))


def _groups(due: Sequence[Entry], most: int) -> Iterator[list[Entry]]:
    """Successive stores together, and successive deletes of records; all else alone.

    Together they are up to `most` records, or one larger store. Stores under callers' ids are
    together with their like.
    """

    def alike(entry: Entry) -> str:
        if entry.once:
            return "once"
        if entry.replaces is not None or entry.verb in ("delete_user", "put_document"):
            return "alone"
        return "store" if entry.stores else "delete"

    for kind, run in groupby(due, key=alike):
        group: list[Entry] = []
        size = 0
        for entry in run:
            records = len(entry.records) if entry.stores else 1
            if group and (kind == "alone" or size + records > most):
                yield group
                group, size = [], 0
            group.append(entry)
            size += records
        yield group
