"""Every write on every driver."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import cycle
from math import inf
from time import monotonic
from typing import Self, TypeVar

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Knowledge, Memory, MemoryPage, Recalled, Record
from app.core.memory.requests import Delete, Forget, Get, Keep, Page, Recall, RecallKnowledge
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    JournalUnavailable,
    MemoryServiceError,
    raise_uncertain,
)
from app.journal.dispatcher import keep, make
from app.journal.entries import Entry, Write, delete_of, stores_of
from app.logs import get_logger
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.journalled import JournalledDriver, troubles
from app.wrappers.node import Node, time_for

T = TypeVar("T")

_LEASE = 4
"""An entry is leased for that many times what one driver is waited for: no write takes longer.
If a store did, others would make it too, which changes nothing."""
_DELETE = 3
"""So long after its begin the caller's process does not make a delete any more: a dispatcher may
have made it, and it would delete what was stored since."""

_log = get_logger(__name__)


class ReplicatedDriver(JournalledDriver):
    """Writes to the first of its drivers, the primary, and to all the others, its replicas.

    A write is in the journal before the primary gets it, so that whatever happens on the way, all
    of them end with the same: a store that the primary refuses is forgotten, one whose fate is not
    known, and every delete, is made on all of them, the primary first. The answer waits for the
    primary, or for a quorum or all (`acknowledge`); what a replica missed is delivered in order.
    """

    name = "replicated"

    def __init__(
        self,
        inner: Sequence[BaseMemoryDriver],
        settings: ReplicatedSettings,
        journal: JournalSettings,
        limits: Limits,
        name: str = "replicated",
    ) -> None:
        super().__init__(inner, journal, limits, name)
        self._settings = settings
        self._primary, *self._replicas = self.inner
        for driver in self.inner:
            after = None if driver is self._primary else self._primary.name
            self._hold(driver, settings.timeout, after=after)
        self._turns = cycle(self.nodes)
        self._late = False
        self._looked = -inf

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            context.inner, settings.replicated, settings.journal, settings.limits, context.name
        )

    async def open(self) -> None:
        """Open every driver; a replica that is not there gets what it missed later.

        Raises `ConfigurationError`, or `DriverUnavailable` when the primary is not there.
        """
        for driver in self.inner:
            if not driver.complete:
                raise ConfigurationError(
                    f"drivers.{self.name}.inner: {driver.name} can't import records, which "
                    "replicated needs"
                )
        await self._open_journal()
        errors = await self._open_inner()
        for driver, error in zip(self._replicas, errors[1:], strict=True):
            if error is not None:
                _log.warning(
                    "replica_unavailable_at_start", driver=driver.name, reason=error.reason
                )
        self._check_places()
        self._start_delivering()
        if errors[0] is not None:
            raise errors[0]

    async def _recall(self, wanted: Recall) -> list[Memory]:
        found, driver, late = await self._read(lambda driver: driver._recall(wanted))
        return Recalled.like(found, found, driver=driver.name, degraded=late)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found, driver, late = await self._read(lambda driver: driver._recall_knowledge(wanted))
        return Recalled.like(found, found, driver=driver.name, degraded=late)

    async def _get(self, wanted: Get) -> Record | None:
        return (await self._read(lambda driver: driver._get(wanted)))[0]

    async def _page(self, wanted: Page) -> MemoryPage:
        return (await self._read(lambda driver: driver._page(wanted)))[0]

    def _export(self) -> AsyncIterator[Record]:
        return self._primary._export()

    async def _read(
        self, call: Callable[[RecordDriver], Awaitable[T]]
    ) -> tuple[T, RecordDriver, bool]:
        """The answer, who gave it, and whether it is not as good as the primary's.

        While the primary is away a replica answers that has every write which was acknowledged.
        """
        if self._settings.reads == "replicas":
            node = await self._up_to_date()
            if node is not None:
                try:
                    return await node.ask(call), node.driver, False
                except (DriverUnavailable, DriverTimeout):
                    pass  # the primary may answer
        late = await self._primary_is_late()
        primary, failure = self.nodes[0], None
        if not primary.reachability.away:
            try:
                return await primary.ask(call), self._primary, late
            except (EmbeddingQueueFull, EmbeddingUnavailable):
                raise
            except (DriverUnavailable, DriverTimeout) as error:
                failure = error
        node = await self._stand_in()
        if node is not None:
            found = await node.ask(call)
            metrics.FALLBACKS.labels(self.name, node.name).inc()
            return found, node.driver, True
        if failure is not None:
            raise failure
        return await _in_time(self._primary, call, self._settings.timeout), self._primary, late

    async def _stand_in(self) -> Node | None:
        """A replica that is there and has all that was acknowledged, if there is one."""
        try:
            behind = await self.journal.behind(self._primary.name)
        except JournalUnavailable:
            return None
        for node in self.nodes[1:]:
            if node.name not in behind and not node.reachability.away:
                return node
        return None

    async def _up_to_date(self) -> Node | None:
        """The next driver that answers and misses nothing: it has all that was answered for."""
        try:
            lags = await self.journal.lag() if await self.journal.count() else {}
        except JournalUnavailable:
            return None
        for _ in self.nodes:
            node = next(self._turns)
            if node.name not in lags and not node.reachability.away:
                return node
        return None

    async def _primary_is_late(self) -> bool:
        """Whether a write waits for the primary, of which the caller heard that it may happen.

        Looked up once in a while: a cache keeps nothing for longer than that after such a write.
        """
        if monotonic() - self._looked > self.journal.interval:
            self._looked = monotonic()
            try:
                self._late = await self.journal.waits(self._primary.name)
            except JournalUnavailable:
                self._late = True  # nobody can tell
        return self._late

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        await self._store(wanted.records, whole=wanted.new)
        return wanted.records

    async def _delete(self, wanted: Delete) -> bool:
        return bool(await self._delete_everywhere(delete_of(wanted)))

    async def _forget(self, wanted: Forget) -> int:
        return await self._delete_everywhere(delete_of(wanted))

    async def _store(self, records: Sequence[Record], *, whole: bool) -> None:
        """Keep the records; only where `whole`, a primary that refuses them has none of them."""
        seconds = time_for(self._settings.timeout, len(records))
        made = await self._append(stores_of(records), seconds, known=not whole)
        try:
            await _in_time(self._primary, lambda _: self._first(made, records), 2 * seconds)
        except MemoryServiceError as error:
            if not error.uncertain and whole and await self._cancelled(made):
                raise
            await self._hand_over(made)
            raise_uncertain(error)  # it is going to happen
        await self._spread(made, lambda driver: keep(driver, self.journal, made), seconds)

    async def _first(self, made: Sequence[Entry], records: Sequence[Record]) -> None:
        """Let the primary have the new records; delete again what was deleted meanwhile.

        Raises `ConnectionLost` for whatever fails after it has them: they are not refused any more.
        """
        await self._primary._keep(Keep(records))
        try:
            for dead in await self.journal.dead(made):
                await make(self._primary, dead)
        except MemoryServiceError as error:
            raise ConnectionLost(reason=error.reason) from error

    async def _cancelled(self, made: Sequence[Entry]) -> bool:
        """Whether nobody will ever make these stores."""
        try:
            return await self.journal.cancel(made)
        except JournalUnavailable:
            return False

    async def _delete_everywhere(self, delete: Write) -> int:
        """How much the primary has deleted."""
        seconds = self._settings.timeout
        until = monotonic() + _DELETE * seconds
        made = await self._append([delete], seconds)
        try:
            answered = await _in_time(
                self._primary, lambda driver: make(driver, delete), 2 * seconds, until
            )
        except MemoryServiceError as error:
            await self._hand_over(made)
            raise_uncertain(error)  # it is going to happen
        await self._spread(made, lambda driver: make(driver, delete), seconds, until)
        return answered

    async def _append(
        self, writes: Sequence[Write], seconds: float, *, known: bool = False
    ) -> list[Entry]:
        return await self.journal.append(writes, self._names, lease=_LEASE * seconds, known=known)

    async def _hand_over(self, made: Sequence[Entry]) -> None:
        """Let the dispatchers make the write everywhere, at the latest when the lease ends."""
        with suppress(JournalUnavailable):
            await self.journal.settle(made)
        self._wake_dispatchers()

    async def _spread(
        self,
        made: Sequence[Entry],
        call: Callable[[RecordDriver], Awaitable[object]],
        seconds: float,
        until: float = inf,
    ) -> None:
        """The primary has the write: wait for who else must, and leave the rest to dispatchers."""
        wanted = {
            "primary": 0,
            "quorum": len(self.inner) // 2,
            "all": len(self._replicas),
        }[self._settings.acknowledge]
        have = [self._primary.name]
        late: MemoryServiceError | None = None
        if wanted:
            tasks = {
                asyncio.create_task(_in_time(driver, call, seconds, until)): driver.name
                for driver in self._replicas
            }
            try:
                pending = set(tasks)
                while pending and len(have) <= wanted:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        error = task.exception()
                        if error is None:
                            have.append(tasks[task])
                        elif isinstance(error, MemoryServiceError):
                            late = error
                        else:
                            raise error
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        await self.journal.settle(made, have)
        self._wake_dispatchers()
        if len(have) <= wanted:
            raise DriverTimeout(
                "Too few drivers have the write yet; it will reach the others.",
                reason=f"{self.name}: {len(have)} of {len(self.inner)} have the write",
            ) from late

    def _state(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        down = [health.driver for health in inner if health.status == "unavailable"]
        away = f"{', '.join(down)} can't be reached" if down else None
        detail = "; ".join(filter(None, [away, waiting, troubles(inner)])) or None
        if all(health.status == "unavailable" for health in inner):
            return "unavailable", detail
        return ("degraded" if detail else "ok"), detail


async def _in_time(
    driver: RecordDriver,
    call: Callable[[RecordDriver], Awaitable[T]],
    seconds: float,
    until: float = inf,
) -> T:
    """What `call` gives on the driver.

    Raises `DriverTimeout` when it takes longer, or when it is later than `until` already.
    """
    seconds = min(seconds, until - monotonic())
    if seconds <= 0:
        raise DriverTimeout(reason=f"{driver.name}: it is too late to ask")
    try:
        async with asyncio.timeout(seconds):
            return await call(driver)
    except TimeoutError as error:
        raise DriverTimeout(reason=f"{driver.name}: no answer in time") from error
