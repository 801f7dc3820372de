"""The inner drivers of failover or replicated, and the journal of what is pending for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic, perf_counter
from typing import Any, TypeAlias, TypeVar

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverHealth, HealthStatus
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept
from app.core.memory.requests import Put
from app.errors import DeletePending, DriverTimeout, DriverUnavailable, JournalUnavailable
from app.journal.dispatcher import Dispatcher
from app.journal.entries import Entry, put_of
from app.journal.journal import Journal
from app.journal.placing import refuse_one_database, refuse_same_cluster
from app.logs import get_logger
from app.settings import JournalSettings
from app.wrappers.node import Node

_DELIVERY_SECONDS = 30.0
"""A delivery may take that long, or as long as a call where that is longer."""

_CATCH_UP_SECONDS = 10.0
_DELETED_SECONDS = 0.02
"""Seconds between two attempts of an import that waits for a delete."""

T = TypeVar("T")

Judge: TypeAlias = Callable[[Sequence[DriverHealth], str | None], tuple[HealthStatus, str | None]]
"""The state and what is wrong, given the drivers' states and what is pending in the journal."""

_log = get_logger(__name__)


class Members:
    """Drivers, the first of which is the primary, with their nodes, dispatchers and journal."""

    def __init__(
        self,
        drivers: Sequence[RecordDriver],
        journal: JournalSettings,
        wrapper: str,
        *,
        timeout: float,
        primary_first: bool,
    ) -> None:
        """`wrapper`: the name of the driver that holds them; `timeout`: seconds to wait for one.

        `primary_first`: no dispatcher brings a write to another driver before the primary has it.
        """
        self._wrapper = wrapper
        self._timeout = timeout
        self._drivers = drivers
        self.names = [driver.name for driver in drivers]
        self.journal = Journal(journal, wrapper, self.check_places)
        self.nodes: list[Node] = []
        """The drivers in their order, as nodes."""
        self.dispatchers: dict[str, Dispatcher] = {}
        """By the driver's name, the task that brings what is pending for that driver."""
        self._shown = set(self.names)
        """The names of the drivers that the metrics show."""
        for driver in drivers:
            self._add(driver, timeout, self.names[0] if primary_first and self.nodes else None)

    @property
    def primary(self) -> Node:
        """The first of them."""
        return self.nodes[0]

    def _add(self, driver: RecordDriver, timeout: float, after: str | None) -> None:
        node = Node(
            driver,
            timeout,
            self._wrapper,
            lambda: self.dispatchers[driver.name].wake(back=True),
        )
        self.nodes.append(node)
        self.dispatchers[driver.name] = Dispatcher(
            self.journal,
            driver,
            wrapper=self._wrapper,
            interval=self.journal.interval,
            timeout=max(timeout, _DELIVERY_SECONDS),
            after=after,
            delivered=node.reachability.answered,
        )

    async def open_journal(self) -> None:
        """Open the journal, or go on without it: it opens itself when its server is there.

        Raises `ConfigurationError`.
        """
        try:
            await self.journal.open(self.names)
        except JournalUnavailable as error:
            _log.error("journal_unavailable_at_start", wrapper=self._wrapper, reason=error.reason)

    async def open_drivers(self) -> list[DriverUnavailable | DriverTimeout | None]:
        """Open every driver; in their order the error of each that is away, or None.

        Raises any other error, when every driver has opened or failed.
        """
        for node in self.nodes:
            node.reachability.start()
        opening = (driver.open() for driver in self._drivers)
        away: list[DriverUnavailable | DriverTimeout | None] = []
        for error in await asyncio.gather(*opening, return_exceptions=True):
            if error is not None and not isinstance(error, DriverUnavailable | DriverTimeout):
                raise error
            away.append(error)
        return away

    def check_places(self) -> None:
        """Raise `ConfigurationError` where drivers share a database, or one has the journal.

        A server can tell which it is only while it is there: so this is checked at the start, and
        before each use of the journal.
        """
        leaves: frozenset[BaseMemoryDriver] = frozenset()
        refuse_one_database(self._wrapper, leaves.union(*(d.leaves() for d in self._drivers)))
        identities = {driver.name: driver.identity() for driver in self._drivers}
        refuse_same_cluster(self._wrapper, self.journal.cluster, identities)

    def start_delivering(self) -> None:
        for dispatcher in self.dispatchers.values():
            dispatcher.start()

    def wake_dispatchers(self) -> None:
        for dispatcher in self.dispatchers.values():
            dispatcher.wake()

    async def import_with(self, journalled: Callable[[], Awaitable[T]]) -> T:
        """Make the journal's call for an import, again and again while a delete of it is pending.

        Raises `DeletePending` where that takes longer than the time-out of a driver.
        """
        late = monotonic() + self._timeout
        while True:
            try:
                return await journalled()
            except DeletePending:
                if monotonic() > late:
                    raise
            self.wake_dispatchers()
            await asyncio.sleep(_DELETED_SECONDS)

    @asynccontextmanager
    async def putting(
        self, wanted: Put[Kept], lease: float
    ) -> AsyncIterator[tuple[Put[Kept], Entry]]:
        """For the time of a block, the put with its moment, and its entry for every driver.

        It is leased to the block for `lease` seconds, and never cancelled: it is going to happen.
        """
        if wanted.before is not None:  # whoever holds this driver has given it the moment
            (entry,) = await self.journal.append([put_of(wanted)], self.names, lease)
            yield wanted, entry
            return
        made: list[Entry] = []
        while not made:
            async with self.journal.moment() as moment:
                put = wanted.at(moment)
                made = await self.journal.append_put(put_of(put), self.names, lease)
                if made:
                    yield put, made[0]

    async def catch_up(self, driver: str) -> None:
        """Try the driver's dead letters and what is pending for it, for ten seconds at most."""
        if driver not in self.dispatchers:
            return
        with suppress(JournalUnavailable, DriverTimeout):
            await self.dispatchers[driver].try_again()
            await self.settled(driver)

    async def settled(self, driver: str) -> None:
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                first = under_way = await self.journal.pending_span(driver)
                while first and under_way and under_way.oldest <= first.newest:
                    await asyncio.sleep(_CATCH_UP_SECONDS / 200)
                    under_way = await self.journal.pending_span(driver)
        except TimeoutError as error:
            raise DriverTimeout(reason=f"{driver} still has to get earlier writes") from error

    async def close(self) -> None:
        """Stop delivering and probing, then close the drivers, and the journal last."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.close)
            for driver in self._drivers:
                stack.push_async_callback(driver.close)
            for node in self.nodes:
                stack.push_async_callback(node.reachability.stop)
            for dispatcher in self.dispatchers.values():
                stack.push_async_callback(dispatcher.stop)

    async def health(self, judge: Judge, **facts: Any) -> DriverHealth:
        """The state of the wrapping driver, as `judge` says, with these facts too."""
        started = perf_counter()
        states = await asyncio.gather(*(driver.health_check() for driver in self._drivers))
        pending, waiting = await self._journal_facts()
        status, detail = judge(states, waiting)
        latency = round((perf_counter() - started) * 1000, 1)
        return DriverHealth(
            driver=self._wrapper,
            status=status,
            detail=detail,
            facts={"latency_ms": latency, **pending, **facts},
            drivers=tuple(states),
        )

    async def _journal_facts(self) -> tuple[dict[str, Any], str | None]:
        """What is pending for each driver, for `/health` and the metrics; and what is wrong."""
        try:
            lags = await self.journal.lag()
        except JournalUnavailable as error:
            return {}, error.detail
        self._shown |= lags.keys()  # also drivers that are not held any more
        for driver in self._shown:
            lag = lags.get(driver)
            metrics.JOURNAL_PENDING.labels(self._wrapper, driver).set(lag.count if lag else 0)
            metrics.JOURNAL_AGE.labels(self._wrapper, driver).set(lag.oldest if lag else 0)
        shown = {
            driver: {"count": lag.count, "age_seconds": lag.oldest, "refused": lag.dead_letters}
            for driver, lag in lags.items()
        }
        late = ", ".join(
            f"{driver} ({lag.count}{'' if driver in self.names else ', not held any more'})"
            for driver, lag in sorted(lags.items())
        )
        detail = f"writes wait for {late}" if late else None
        refused = [driver for driver, lag in lags.items() if lag.dead_letters]
        if refused:
            detail = f"{detail}; refused by {', '.join(refused)}: see the log"
        return {"pending": shown}, detail


def troubles(inner: Sequence[DriverHealth]) -> str | None:
    """What is wrong with the degraded drivers; None without any."""
    degraded = (state for state in inner if state.status == "degraded")
    return (
        "; ".join(f"{state.driver}: {state.detail or state.status}" for state in degraded) or None
    )
