"""Every write on every driver."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from itertools import cycle
from math import inf
from time import monotonic
from typing import Self, TypeVar

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Recalled,
    Record,
    UserPage,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.embedding import Embedder
from app.errors import (
    ConfigurationError,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    JournalUnavailable,
)
from app.logs import get_logger
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.base import WrappingDriver
from app.wrappers.members import Members, troubles
from app.wrappers.node import Node, first_answer
from app.wrappers.pending_reads import Choose, PendingReads
from app.wrappers.replicated_writes import ReplicatedWrites

T = TypeVar("T")

_log = get_logger(__name__)


class ReplicatedDriver(WrappingDriver):
    """Writes to the first of its drivers, the primary, and to all the others, its replicas.

    The journal has a write before the primary gets it, so that all drivers end equal whatever fails
    on the way. A store that the primary refuses is cancelled; a store that may have happened, and
    every delete, is made on all drivers, the primary first. `acknowledge` says whether the caller
    waits for the primary, a quorum or all; with "journal" the journal alone answers while the
    primary is away. A dispatcher delivers later what a driver missed.
    """

    name = "replicated"

    def __init__(
        self,
        inner: Sequence[BaseMemoryDriver],
        settings: ReplicatedSettings,
        journal: JournalSettings,
        embedder: Embedder,
        limits: Limits,
        name: str = "replicated",
    ) -> None:
        super().__init__(inner, limits)
        self.name = name
        self._settings = settings
        self.members = Members(
            self.inner, journal, name, timeout=settings.timeout, primary_first=True
        )
        self._journal = self.members.journal
        self.clock = self._journal.clock
        self._reads = PendingReads(
            self._journal, embedder, limits, stored_by_all=True, without_journal=False
        )
        self._writes = ReplicatedWrites(self.members, settings, self, self._reads)
        self._primary, *self._replicas = self.members.nodes
        self._turns = cycle(self.members.nodes)
        self._late = False
        self._looked = -inf

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            context.inner,
            settings.replicated,
            settings.journal,
            context.embedder,
            settings.limits,
            context.name,
        )

    async def open(self) -> None:
        """Open every driver; a dispatcher brings a replica that is away what it missed.

        Raises `ConfigurationError`, or `DriverUnavailable` when the primary is not there.
        """
        for driver in self.inner:
            if not driver.complete:
                raise ConfigurationError(
                    f"drivers.{self.name}.inner: {driver.name} can't import records, which "
                    "replicated needs"
                )
        await self.members.open_journal()
        errors = await self.members.open_drivers()
        for node, error in zip(self._replicas, errors[1:], strict=True):
            if error is not None:
                _log.warning("replica_unavailable_at_start", driver=node.name, reason=error.reason)
        self.members.check_places()
        self.members.start_delivering()
        if errors[0] is not None:
            raise errors[0]

    async def close(self) -> None:
        await self.members.close()

    async def catch_up(self, driver: str) -> None:
        await self.members.catch_up(driver)

    async def settled(self, driver: str) -> None:
        await self.members.settled(driver)

    # Reading

    async def _recall(self, wanted: Recall) -> list[Memory]:
        found, node, late = await self._read(
            lambda driver: driver._recall(wanted), lambda choose: self._reads.recall(wanted, choose)
        )
        if node is None:
            return found
        return Recalled.like(found, found, driver=node.name, degraded=late)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found, node, late = await self._read(
            lambda driver: driver._recall_knowledge(wanted),
            lambda choose: self._reads.recall_knowledge(wanted, choose),
        )
        if node is None:
            return found
        return Recalled.like(found, found, driver=node.name, degraded=late)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        found, _, _ = await self._read(
            lambda driver: driver._page_knowledge(wanted),
            lambda choose: self._reads.page_knowledge(wanted, choose),
        )
        return found

    async def _get(self, wanted: Get) -> Record | None:
        found, _, _ = await self._read(
            lambda driver: driver._get(wanted), lambda choose: self._reads.get(wanted, choose)
        )
        return found

    async def _page(self, wanted: Page) -> MemoryPage:
        found, _, _ = await self._read(
            lambda driver: driver._page(wanted), lambda choose: self._reads.page(wanted, choose)
        )
        return found

    async def _users(self, wanted: Users) -> UserPage:
        found, _, _ = await self._read(
            lambda driver: driver._users(wanted), lambda choose: self._reads.users(wanted, choose)
        )
        return found

    def _export(self, wanted: Export) -> AsyncIterator[Record]:
        return self._reads.export(wanted, self.members.nodes, self.name, self._settings.timeout)

    async def _read(
        self,
        call: Callable[[RecordDriver], Awaitable[T]],
        laid_over: Callable[[Choose], Awaitable[T]],
    ) -> tuple[T, Node | None, bool]:
        """The answer, the node that gave it, and whether the answer may lack something.

        `call` asks one driver. `laid_over` asks one and lays over its answer what is pending for
        that driver: then the node is None.
        """
        if self._settings.reads == "replicas":
            node = await self._up_to_date()
            if node is not None:
                try:
                    return await node.ask(call), node, False
                except (EmbeddingQueueFull, EmbeddingUnavailable):
                    raise
                except (DriverUnavailable, DriverTimeout):
                    pass  # the primary may answer
        late, pending = await self._is_late()
        if pending:
            return await laid_over(self._anybody), None, late
        try:
            return await self._primary.ask(call), self._primary, late
        except (EmbeddingQueueFull, EmbeddingUnavailable):
            raise
        except (DriverUnavailable, DriverTimeout) as error:
            try:
                return await laid_over(self._stand_in), None, True
            except (DriverUnavailable, DriverTimeout):
                raise error from None

    async def _anybody(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[T, Node, bool]:
        return await first_answer(self.members.nodes, ask, self.name)

    async def _stand_in(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[T, Node, bool]:
        """A replica's answer, in the place of the primary's."""
        found, node, _ = await first_answer(self._replicas, ask, self.name)
        metrics.FALLBACKS.labels(self.name, node.name).inc()
        return found, node, True

    async def _up_to_date(self) -> Node | None:
        """The next driver that answers and for which nothing is pending; None without one."""
        try:
            lags = await self._journal.lag() if await self._journal.count() else {}
        except JournalUnavailable:
            return None
        for _ in self.members.nodes:
            node = next(self._turns)
            if node.name not in lags and not node.reachability.away:
                return node
        return None

    async def _is_late(self) -> tuple[bool, bool]:
        """Whether a write is pending for the primary, and whether it was acknowledged.

        Where the journal never acknowledges, this asks the journal once an interval. So for an
        interval at most, a cache may keep an answer without a write that may have happened.
        """
        accepts = self._settings.acknowledge == "journal"
        if not accepts and monotonic() - self._looked <= self._journal.interval:
            return self._late, False
        self._looked = monotonic()
        try:
            self._late = await self._journal.waits(self._primary.name)
        except JournalUnavailable:
            self._late = True  # nobody can tell
            return True, False
        return self._late, self._late and accepts

    # Writing

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._writes.keep_once(wanted.records)
        await self._writes.keep(wanted)
        return wanted.records

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._writes.replace(wanted)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return await self._writes.put(wanted)

    async def _delete(self, wanted: Delete) -> int:
        return await self._writes.delete(wanted)

    def _moment(self) -> AbstractAsyncContextManager[datetime]:
        return self._journal.moment()

    async def _forget(self, wanted: Forget) -> int:
        if wanted.before is not None:
            return await self._writes.delete(wanted)
        async with self._moment() as moment:
            return await self._writes.delete(replace(wanted, before=moment))

    async def health_check(self) -> DriverHealth:
        return await self.members.health(_judge)


def _judge(inner: Sequence[DriverHealth], waiting: str | None) -> tuple[HealthStatus, str | None]:
    down = [health.driver for health in inner if health.status == "unavailable"]
    away = f"{', '.join(down)} can't be reached" if down else None
    detail = "; ".join(filter(None, [away, waiting, troubles(inner)])) or None
    if all(health.status == "unavailable" for health in inner):
        return "unavailable", detail
    return ("degraded" if detail else "ok"), detail
