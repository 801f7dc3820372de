"""The first driver that answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Self, TypeVar, cast

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.once import is_same, placed, repeated
from app.core.memory.pages import count_document
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    UserPage,
    key_of,
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
    JournalUnavailable,
    MemoryServiceError,
    raise_uncertain,
)
from app.journal.dispatcher import put
from app.journal.entries import Entry, deletes_of, once_of, stores_of
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.base import WrappingDriver
from app.wrappers.members import Members, troubles
from app.wrappers.node import Node, first_answer, time_for
from app.wrappers.pending_reads import PendingReads

T = TypeVar("T")

_LEASE = 3
"""The lease of a delete, in time-outs of one driver."""


class FailoverDriver(WrappingDriver):
    """Reads from the first of its drivers that answers, in order; writes to the first, the primary.

    With `writes=journal` the journal takes a store or an update that the primary can't take; reads
    show it at once, and a dispatcher brings it to the primary later. Deletes reach every driver,
    now or through the journal, whatever `writes` is. While a driver is away, a delete of records
    answers that it deleted them all; one of what a filter lets through needs the primary.
    """

    name = "failover"

    def __init__(
        self,
        inner: Sequence[BaseMemoryDriver],
        settings: FailoverSettings,
        journal: JournalSettings,
        embedder: Embedder,
        limits: Limits,
        name: str = "failover",
    ) -> None:
        super().__init__(inner, limits)
        self.name = name
        self._settings = settings
        self._embedder = embedder
        self.members = Members(
            self.inner, journal, name, timeout=settings.timeout, primary_first=False
        )
        self._journal = self.members.journal
        self.clock = self._journal.clock
        self._reads = PendingReads(
            self._journal, embedder, limits, stored_by_all=False, without_journal=True
        )

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            context.inner,
            settings.failover,
            settings.journal,
            context.embedder,
            settings.limits,
            context.name,
        )

    @property
    def _journals(self) -> bool:
        return self._settings.writes == "journal"

    async def open(self) -> None:
        """Open every driver; one that is away is found later, by a health check.

        Raises `ConfigurationError`, or `DriverUnavailable` when none is there.
        """
        if self._journals:
            if not self.inner[0].complete:
                raise ConfigurationError(
                    f"drivers.{self.name}.writes: {self.inner[0].name} can't import records, "
                    "which writes = journal needs"
                )
            await self._embedder.open()
        await self.members.open_journal()
        errors = await self.members.open_drivers()
        for node, error in zip(self.members.nodes, errors, strict=True):
            if error is not None:
                node.reachability.lost(error.reason)
        self.members.check_places()
        self.members.start_delivering()
        if all(errors):
            raise next(error for error in errors if error is not None)

    async def close(self) -> None:
        await self.members.close()

    async def catch_up(self, driver: str) -> None:
        await self.members.catch_up(driver)

    async def settled(self, driver: str) -> None:
        await self.members.settled(driver)

    async def _first(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[T, Node, bool]:
        found, node, stands_in = await first_answer(self.members.nodes, ask, self.name)
        if stands_in:
            metrics.FALLBACKS.labels(self.name, node.name).inc()
        return found, node, stands_in

    async def _primary(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[T, Node, bool]:
        """The answer of the primary alone: the others may lack what it has."""
        return await ask(self.members.primary), self.members.primary, False

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reads.recall(wanted, self._first)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        return await self._reads.recall_knowledge(wanted, self._first)

    async def _page(self, wanted: Page) -> MemoryPage:
        return await self._reads.page(wanted, self._primary if wanted.whole else self._first)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        return await self._reads.page_knowledge(wanted, self._first)

    async def _get(self, wanted: Get) -> Record | None:
        return await self._reads.get(wanted, self._first)

    async def _users(self, wanted: Users) -> UserPage:
        return await self._reads.users(wanted, self._first)

    def _export(self, wanted: Export) -> AsyncIterator[Record]:
        """All that the primary has, and what is pending for it: the others may lack records."""
        primary = [self.members.primary]
        return self._reads.export(wanted, primary, self.name, self._settings.timeout)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._keep_once(wanted.records)
        records = wanted.records
        if not wanted.new:
            await self.members.import_with(lambda: self._journal.lift(stores_of(records)))
        # The journal may bring the records to the primary once more: they are not new there.
        given = Keep(records) if self._journals else wanted
        try:
            return await self.members.primary.ask(
                lambda driver: driver._keep(given), records=len(records)
            )
        except (EmbeddingQueueFull, JournalUnavailable):
            raise
        except (DriverUnavailable, DriverTimeout):
            if not self._journals:
                raise
        await self._journal.append(stores_of(records), [self.members.primary.name])
        self.members.dispatchers[self.members.primary.name].wake()
        return records

    async def _keep_once(self, records: Sequence[Kept]) -> Sequence[Kept]:
        """What is pending for the primary is the answer for its id, and the primary's for others.

        The journal takes a store that the primary can't take, unless another driver has its record.
        """
        writes = once_of(records)
        found = await self.members.import_with(
            lambda: self._journal.pending_once(writes, undecided=True)
        )
        answer = dict(enumerate(found))
        left = [place for place, there in answer.items() if there is None]
        if left:
            with placed(left):
                answer |= zip(left, await self._kept_once([records[n] for n in left]), strict=True)
        return [cast(Kept, answer[place]) for place in range(len(records))]

    async def _kept_once(self, records: Sequence[Kept]) -> Sequence[Record]:
        wanted = Keep(records, once=True)
        try:
            return await self.members.primary.ask(
                lambda driver: driver._keep(wanted), records=len(records)
            )
        except (EmbeddingQueueFull, JournalUnavailable):
            raise
        except (DriverUnavailable, DriverTimeout) as error:
            if not self._journals:
                raise
            own = error.uncertain
        answer = {
            place: await self._elsewhere(record, place, own=own)
            for place, record in enumerate(records)
        }
        left = [place for place, there in answer.items() if there is None]
        if left:
            writes = once_of(records[place] for place in left)
            with placed(left):
                made = await self._journal.append_once(
                    writes, [self.members.primary.name], undecided=True
                )
            for place, each in zip(left, made, strict=True):
                answer[place] = records[place] if isinstance(each, Entry) else each
            self.members.dispatchers[self.members.primary.name].wake()
        return [there for there in answer.values() if there is not None]

    async def _elsewhere(self, record: Kept, place: int, *, own: bool) -> Record | None:
        """What the first driver that answers has under the record's id; raises `Conflict`.

        `own`: the record may be there by this very store, and then the store was not repeated.
        """
        try:
            found = await self._reads.get(Get.of(record), self._first)
        except (DriverUnavailable, DriverTimeout):
            return None
        if found is None:
            return None
        return record if own and is_same(found, record) else repeated(found, record, place)

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        primary, record = self.members.primary, wanted.record
        (write,) = stores_of([record])
        if wanted.joins:
            await self.members.import_with(lambda: self._journal.lift([write], of="documents"))
        user_id, one = key_of(record)
        waits = (await self._reads.pending(user_id, primary)).kept.get(one)
        if waits is not None and waits.updated_at > wanted.over:
            return False
        waiting = waits is not None and waits.updated_at == wanted.over
        if not waiting:
            try:
                return await primary.ask(lambda driver: driver._replace(wanted))
            except EmbeddingQueueFull:
                raise
            except (DriverUnavailable, DriverTimeout) as error:
                if not self._journals or error.uncertain:
                    raise
        made = await self._journal.append_update(
            write, wanted.over, [primary.name], waiting=waiting, joins=wanted.joins
        )
        self.members.dispatchers[primary.name].wake()
        return bool(made)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        """Every driver gets a put: the others would keep what the primary does not have any more.

        While the primary is away the journal takes it, with `writes=journal`; else nothing does.
        """
        nodes, records = self.members.nodes, len(wanted.records)
        primary = self.members.primary
        if primary.reachability.away and not self._journals:
            raise DriverUnavailable(reason=f"{primary.name} is left alone")
        pending = await self._reads.pending(wanted.user_id, primary)
        seen = 0 if records else await count_document(self._page, self._page_knowledge, wanted)
        lease = _LEASE * time_for(self._settings.timeout, records)
        async with self.members.putting(wanted, lease) as (given, entry):
            call = partial(put, journal=self._journal, entry=entry)
            answers = await asyncio.gather(
                *(node.ask(call, records=records) for node in nodes), return_exceptions=True
            )
            reached = {
                node.name: answer
                for node, answer in zip(nodes, answers, strict=True)
                if not isinstance(answer, BaseException)
            }
            await self._journal.settle([entry], list(reached))
            self.members.wake_dispatchers()
        for each in answers:
            if isinstance(each, BaseException) and not isinstance(each, MemoryServiceError):
                raise each
        away = isinstance(answers[0], DriverUnavailable | DriverTimeout)
        if isinstance(answers[0], MemoryServiceError) and not (away and self._journals):
            raise_uncertain(answers[0])  # it is going to happen
        if primary.name in reached:
            return given.records, reached[primary.name] + pending.replaced_by(given)
        return given.records, seen

    async def _delete(self, wanted: Delete) -> int:
        pending = await self._reads.waiting(wanted, self.members.primary)
        counts = await self._delete_everywhere(wanted)
        if len(counts) < len(self.members.nodes):
            return len(wanted.ids)
        return min(len(wanted.ids), pending.counted_with(max(counts)))

    def _moment(self) -> AbstractAsyncContextManager[datetime]:
        return self._journal.moment()

    async def _forget(self, wanted: Forget) -> int:
        if wanted.before is None:
            async with self._moment() as moment:
                return await self._forget(replace(wanted, before=moment))
        pending = await self._reads.waiting(wanted, self.members.primary)
        counts = await self._delete_everywhere(wanted)
        return pending.counted_with(max(counts, default=0))

    async def _delete_everywhere(self, wanted: Delete | Forget) -> list[int]:
        """What each driver that answered has deleted; dispatchers make the delete on the others."""
        nodes = self.members.nodes
        records = len(wanted.ids) if isinstance(wanted, Delete) else 1
        lease = _LEASE * time_for(self._settings.timeout, records)
        made = await self._journal.append(deletes_of(wanted), self.members.names, lease)
        async with self._journal.leased(made, lease):
            answers = await asyncio.gather(
                *(node.delete(wanted) for node in nodes), return_exceptions=True
            )
        reached = {
            node.name: answer
            for node, answer in zip(nodes, answers, strict=True)
            if not isinstance(answer, BaseException)
        }
        await self._journal.settle(made, list(reached))
        self.members.wake_dispatchers()
        for each in answers:
            expected = (DriverUnavailable, DriverTimeout)
            if isinstance(each, BaseException) and not isinstance(each, expected):
                raise each
        return list(reached.values())

    async def health_check(self) -> DriverHealth:
        return await self.members.health(self._judge, left_alone=self._left_alone())

    def _left_alone(self) -> list[str]:
        return [node.name for node in self.members.nodes if node.reachability.away]

    def _judge(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        down = [health.driver for health in inner if health.status == "unavailable"]
        if not down:
            alone = ", ".join(self._left_alone())
            alone = alone and f"{alone} is left alone"
            detail = "; ".join(filter(None, [alone, waiting, troubles(inner)])) or None
            return ("degraded" if detail else "ok"), detail
        away = f"{', '.join(down)} can't be reached"
        away = "; ".join(filter(None, [away, waiting, troubles(inner)]))
        serves = [health.driver for health in inner if health.status != "unavailable"]
        if not serves:
            return "unavailable", away
        return "degraded", f"{away}; {serves[0]} answers"
