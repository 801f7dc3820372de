"""What failover and replicated share: a journal, and who delivers what it holds."""

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from time import perf_counter
from typing import Any

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverHealth, HealthStatus
from app.core.memory.record_driver import RecordDriver
from app.errors import DriverTimeout, DriverUnavailable, JournalUnavailable
from app.journal.dispatcher import Dispatcher
from app.journal.journal import Journal
from app.journal.placing import refuse_one_database, refuse_same_cluster
from app.logs import get_logger
from app.settings import JournalSettings, Limits
from app.wrappers.base import WrappingDriver
from app.wrappers.node import Node

_DELIVERY_SECONDS = 30.0
"""A delivery may take that long, or as long as a call where that is longer."""

_CATCH_UP_SECONDS = 10.0

_log = get_logger(__name__)


class JournalledDriver(WrappingDriver):
    """A wrapping driver whose journal keeps writes until every driver that it holds has them.

    A subclass calls `_hold` for each of its drivers, in their order.
    """

    def __init__(
        self,
        inner: Sequence[BaseMemoryDriver],
        journal: JournalSettings,
        limits: Limits,
        name: str,
    ) -> None:
        super().__init__(inner, limits)
        self.name = name
        self._names = [driver.name for driver in self.inner]
        self.journal = Journal(journal, name, self._check_places)
        self.nodes: list[Node] = []
        """The drivers that it holds, in order, as nodes."""
        self.dispatchers: dict[str, Dispatcher] = {}
        """By the driver's name, the task that brings what is pending for that driver."""
        self._shown = set(self._names)
        """Those that the metrics show."""

    def _hold(
        self,
        driver: RecordDriver,
        timeout: float,
        *,
        after: str | None = None,
    ) -> None:
        """Make the node of `driver`, and who delivers to it: what `after`, if given, has."""
        node = Node(
            driver, timeout, self.name, lambda: self.dispatchers[driver.name].wake(back=True)
        )
        self.nodes.append(node)
        self.dispatchers[driver.name] = Dispatcher(
            self.journal,
            driver,
            wrapper=self.name,
            interval=self.journal.interval,
            timeout=max(timeout, _DELIVERY_SECONDS),
            after=after,
            delivered=node.reachability.answered,
        )

    async def _open_journal(self) -> None:
        """Open it, or go on without it: it opens itself when it can.

        Raises `ConfigurationError`.
        """
        try:
            await self.journal.open(self._names)
        except JournalUnavailable as error:
            _log.error("journal_unavailable_at_start", wrapper=self.name, reason=error.reason)

    async def _open_inner(self) -> list[DriverUnavailable | DriverTimeout | None]:
        """Open every driver; of each that is not there yet, the error.

        Raises any other error, when all of them have ended.
        """
        for node in self.nodes:
            node.reachability.start()
        opening = (driver.open() for driver in self.inner)
        away: list[DriverUnavailable | DriverTimeout | None] = []
        for error in await asyncio.gather(*opening, return_exceptions=True):
            if error is not None and not isinstance(error, DriverUnavailable | DriverTimeout):
                raise error
            away.append(error)
        return away

    def _check_places(self) -> None:
        """Raise `ConfigurationError` where one could not stand in for another.

        Two drivers are one database, or the journal is in the PostgreSQL of one. A server tells
        which it is when it is there: so this is asked at the start, and whenever the journal is
        used.
        """
        refuse_one_database(self.name, self.leaves())
        identities = {driver.name: driver.identity() for driver in self.inner}
        refuse_same_cluster(self.name, self.journal.cluster, identities)

    def _start_delivering(self) -> None:
        for dispatcher in self.dispatchers.values():
            dispatcher.start()

    def _wake_dispatchers(self) -> None:
        for dispatcher in self.dispatchers.values():
            dispatcher.wake()

    async def catch_up(self, driver: str) -> None:
        """For ten seconds at most: what it refuses again stays refused."""
        if driver not in self.dispatchers:
            return
        with suppress(JournalUnavailable, DriverTimeout):
            await self.dispatchers[driver].try_again()
            await self.settled(driver)

    async def settled(self, driver: str) -> None:
        try:
            async with asyncio.timeout(_CATCH_UP_SECONDS):
                first = under_way = await self.journal.under_way(driver)
                while first and under_way and under_way.oldest <= first.newest:
                    await asyncio.sleep(_CATCH_UP_SECONDS / 200)
                    under_way = await self.journal.under_way(driver)
        except TimeoutError as error:
            raise DriverTimeout(reason=f"{driver} still has to get earlier writes") from error

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.journal.close)
            stack.push_async_callback(super().close)
            for node in self.nodes:
                stack.push_async_callback(node.reachability.stop)
            for dispatcher in self.dispatchers.values():
                stack.push_async_callback(dispatcher.stop)

    async def health_check(self) -> DriverHealth:
        started = perf_counter()
        inner = await asyncio.gather(*(driver.health_check() for driver in self.inner))
        facts, waiting = await self._journal_facts()
        status, detail = self._state(inner, waiting)
        return DriverHealth(
            driver=self.name,
            status=status,
            detail=detail,
            facts={
                "latency_ms": round((perf_counter() - started) * 1000, 1),
                **facts,
                **self._facts(),
            },
            drivers=tuple(inner),
        )

    @abstractmethod
    def _state(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        """The state and what is wrong, given the inner states and what waits in the journal."""

    def _facts(self) -> dict[str, Any]:
        """Figures of its own for `/health`."""
        return {}

    async def _journal_facts(self) -> tuple[dict[str, Any], str | None]:
        """What each driver still has to get, for `/health` and the metrics; and what is wrong."""
        try:
            lags = await self.journal.lag()
        except JournalUnavailable as error:
            return {}, error.detail
        self._shown |= lags.keys()  # also who is not held any more
        for driver in self._shown:
            lag = lags.get(driver)
            metrics.JOURNAL_PENDING.labels(self.name, driver).set(lag.count if lag else 0)
            metrics.JOURNAL_AGE.labels(self.name, driver).set(lag.oldest if lag else 0)
        shown = {
            driver: {"count": lag.count, "age_seconds": lag.oldest, "refused": lag.dead_letters}
            for driver, lag in lags.items()
        }
        late = ", ".join(
            f"{driver} ({lag.count}{'' if driver in self._names else ', not held any more'})"
            for driver, lag in sorted(lags.items())
        )
        detail = f"writes wait for {late}" if late else None
        refused = [driver for driver, lag in lags.items() if lag.dead_letters]
        if refused:
            detail = f"{detail}; refused by {', '.join(refused)}: see the log"
        return {"pending": shown}, detail


def troubles(inner: Sequence[DriverHealth]) -> str | None:
    """What is wrong with the drivers that serve all the same."""
    degraded = (state for state in inner if state.status == "degraded")
    return (
        "; ".join(f"{state.driver}: {state.detail or state.status}" for state in degraded) or None
    )
