"""Every write on every driver."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from itertools import cycle
from typing import Any, Self

import structlog

from app.core.memory.base import (
    BaseMemoryDriver,
    DriverContext,
    DriverHealth,
    HealthStatus,
    SupportsImport,
)
from app.core.memory.codec import Record
from app.core.memory.journal.delivery import keep, make
from app.core.memory.journal.entries import Entry, Write, stores_of
from app.core.memory.wrappers.base import Call
from app.core.memory.wrappers.breaker import Breaker, Node
from app.core.memory.wrappers.journalled import JournalledDriver
from app.core.memory.wrappers.writes import answer, delete_of, records_of
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverTimeout,
    DriverUnavailable,
    JournalUnavailable,
    MemoryServiceError,
)
from app.settings import JournalSettings, Limits, ReplicatedSettings

_HOLD = 3
"""An entry is its maker's for that many timeouts: a delete takes no longer. A store that does is
made by others too, which changes nothing."""

_log = structlog.stdlib.get_logger(__name__)


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
            self._nodes.append(Node(driver, Breaker(driver, wrapper=name), settings.timeout))
            after = None if driver is self._primary else self._primary.name
            self._deliver_to(driver, settings.timeout, after)
        self._turns = cycle(self._nodes)

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
            if not driver.supports(SupportsImport):
                raise ConfigurationError(
                    f"drivers.{self.name}.inner: {driver.name} can't import records, which "
                    "replicated needs"
                )
        await self._open_journal()
        errors = await asyncio.gather(*(self._open(driver) for driver in self.inner))
        await self._refuse_own_server()
        self._start_delivering()
        if errors[0] is not None:
            raise errors[0]

    async def _open(self, driver: BaseMemoryDriver) -> MemoryServiceError | None:
        try:
            await driver.open()
        except (DriverUnavailable, DriverTimeout) as error:
            _log.warning("replica_unavailable_at_start", driver=driver.name, reason=error.reason)
            return error
        return None

    async def _read(self, call: Call) -> Any:
        if self._settings.reads == "primary":
            return await call.on(self._primary)
        node = await self._up_to_date()
        if node is not None:
            try:
                return await node.ask(call.on(node.driver))
            except (DriverUnavailable, DriverTimeout):
                pass  # the primary may answer
        return await call.on(self._primary)

    async def _up_to_date(self) -> Node | None:
        """The next driver that answers and misses nothing: it has all that was answered for."""
        try:
            lags = await self._journal.lag() if await self._journal.count() else {}
        except JournalUnavailable:
            return None
        for _ in self._nodes:
            node = next(self._turns)
            if node.name not in lags and node.breaker.state == "closed":
                return node
        return None

    async def _write(self, call: Call) -> Any:
        for driver in self.inner:
            call.check(driver)
        delete = delete_of(call, self._limits)
        if delete is not None:
            return await self._delete(delete)
        records = records_of(call, self._limits)
        if records:
            await self._store(records, whole=call.verb != "import_records")
        return answer(call, records)

    async def _store(self, records: Sequence[Record], *, whole: bool) -> None:
        """Keep the records; only where `whole`, a primary that refuses them has none of them."""
        made = await self._append(stores_of(records))
        try:
            await keep(self._primary, self._journal, made, fresh=True)
        except MemoryServiceError as error:
            if error.uncertain or not whole:
                await self._hand_over(made)
            else:
                with suppress(JournalUnavailable):  # then it is made all the same, later
                    await self._journal.cancel(made)
            raise
        await self._spread(made, lambda driver: keep(driver, self._journal, made))

    async def _delete(self, delete: Write) -> bool | int:
        made = await self._append([delete])
        try:
            async with asyncio.timeout(2 * self._settings.timeout):
                answered = await make(self._primary, delete)
        except TimeoutError as error:
            await self._hand_over(made)
            raise DriverTimeout(reason=f"{self._primary.name}: no answer in time") from error
        except MemoryServiceError as error:
            await self._hand_over(made)
            if error.uncertain:
                raise
            raise ConnectionLost(reason=error.reason) from error  # it is going to happen
        await self._spread(made, lambda driver: make(driver, delete))
        return answered

    async def _append(self, writes: Sequence[Write]) -> list[Entry]:
        return await self._journal.append(writes, self._names, hold=_HOLD * self._settings.timeout)

    async def _hand_over(self, made: Sequence[Entry]) -> None:
        """Let the deliverers make the write everywhere; at the latest when it is held no more."""
        with suppress(JournalUnavailable):
            await self._journal.settle(made)
        self._wake_deliverers()

    async def _spread(
        self, made: Sequence[Entry], on: Callable[[BaseMemoryDriver], Awaitable[object]]
    ) -> None:
        """The primary has the write: wait for who else must, and leave the rest to deliverers."""
        wanted = {
            "primary": 0,
            "quorum": len(self.inner) // 2,
            "all": len(self._replicas),
        }[self._settings.acknowledge]
        have = [self._primary.name]
        late: MemoryServiceError | None = None
        if wanted:
            tasks = {
                asyncio.create_task(self._in_time(on(driver))): driver.name
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
        await self._journal.settle(made, have)
        self._wake_deliverers()
        if len(have) <= wanted:
            raise DriverTimeout(
                "Too few drivers have the write yet; it will reach the others.",
                reason=f"{self.name}: {len(have)} of {len(self.inner)} have the write",
            ) from late

    async def _in_time(self, made: Awaitable[object]) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                await made
        except TimeoutError as error:
            raise DriverTimeout(reason="no answer in time") from error

    def _state(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        down = [health.driver for health in inner if health.status == "unavailable"]
        away = f"{', '.join(down)} can't be reached" if down else None
        detail = "; ".join(each for each in (away, waiting) if each) or None
        if inner[0].status == "unavailable":
            return "unavailable", detail
        return ("degraded" if detail else "ok"), detail
