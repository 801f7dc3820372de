"""Every write on every driver."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import cycle
from math import inf
from time import monotonic
from typing import Self, TypeVar

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.cursor import Cursor
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Knowledge,
    Memory,
    MemoryPage,
    Recalled,
    Record,
    record_id,
)
from app.core.memory.requests import (
    Delete,
    Forget,
    Get,
    Keep,
    Kind,
    Page,
    Recall,
    RecallKnowledge,
    Replace,
)
from app.embedding import Embedder
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
from app.journal.entries import Entry, Write, delete_of, stores_of, update_of
from app.logs import get_logger
from app.settings import JournalSettings, Limits, ReplicatedSettings
from app.wrappers.base import WrappingDriver
from app.wrappers.members import Members, troubles
from app.wrappers.node import Node, first_answer, time_for
from app.wrappers.overlay import Overlay
from app.wrappers.pending_reads import Choose, PendingReads

T = TypeVar("T")

_PATIENCE = 2
"""The primary is waited for that many times as long as a replica."""
_LEASE = 4
"""An entry is leased for that many times what a replica is waited for: no write takes longer.
If one did, dispatchers would make it too, which changes nothing."""
_PAGE = 100

_log = get_logger(__name__)


class ReplicatedDriver(WrappingDriver):
    """Writes to the first of its drivers, the primary, and to all the others, its replicas.

    A write is in the journal before the primary gets it, so that whatever happens on the way, all
    of them end with the same: a store that the primary refuses is forgotten, one whose fate is not
    known, and every delete, is made on all of them, the primary first. The answer waits for the
    primary, or for a quorum or all (`acknowledge`); the journal alone answers for a primary that is
    away where `acknowledge` is "journal". What a driver missed is delivered later.
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
        """Open every driver; a replica that is not there gets what it missed later.

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

    def _export(self) -> AsyncIterator[Record]:
        return self._reads.export(self.members.nodes, self.name, self._settings.timeout)

    async def _read(
        self,
        call: Callable[[RecordDriver], Awaitable[T]],
        laid_over: Callable[[Choose], Awaitable[T]],
    ) -> tuple[T, Node | None, bool]:
        """The answer, which driver gave it, and whether that may lack something.

        The driver is None where it is `laid_over` that answered: what a driver misses of all that
        was acknowledged is laid over its answer.
        """
        if self._settings.reads == "replicas":
            node = await self._up_to_date()
            if node is not None:
                with suppress(DriverUnavailable, DriverTimeout):  # the primary may answer
                    return await node.ask(call), node, False
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
        """The next driver that answers and misses nothing: it has all that was answered for."""
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
        """Whether a write waits for the primary, and whether it was acknowledged.

        One that was not is looked up once in a while: a cache keeps nothing for longer than that
        after a write of which the caller heard that it may happen.
        """
        if not self._accepts and monotonic() - self._looked <= self._journal.interval:
            return self._late, False
        self._looked = monotonic()
        try:
            self._late = await self._journal.waits(self._primary.name)
        except JournalUnavailable:
            self._late = True  # nobody can tell
            return True, False
        return self._late, self._late and self._accepts

    # Writing

    @property
    def _accepts(self) -> bool:
        """Whether the journal answers for a primary that is away."""
        return self._settings.acknowledge == "journal"

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        """Keep the records; only where they are new, a primary that refuses them has none."""
        records = wanted.records
        arguments = stores_of(records), self.members.names, self._lease(len(records))
        if wanted.new:
            made = await self._journal.append(*arguments)
        else:
            made = await self.members.import_with(lambda: self._journal.append_import(*arguments))
        try:
            await self._on_primary(made, lambda driver: driver._keep(Keep(records)), len(records))
        except MemoryServiceError as error:
            await self._failed(made, error, undone=wanted.new)
            return records
        await self._spread(made, partial(keep, journal=self._journal, stored=made), len(records))
        return records

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        update, names = update_of(wanted), self.members.names
        made = await self._journal.append_update(update, wanted.over, names, self._lease())
        if not made:
            return False
        try:
            return await self._replace_everywhere(made, wanted)
        except asyncio.CancelledError:  # other updates would wait until the lease ends
            await self._hand_over(made)
            raise

    async def _replace_everywhere(self, made: Sequence[Entry], wanted: Replace[Kept]) -> bool:
        (entry,) = made
        if record_id(wanted.record) in (await self._unmade(entry.user_id)).kept:
            return await self._accept_update(made, wanted)
        try:
            replaced = await self._on_primary(made, lambda driver: driver._replace(wanted))
        except MemoryServiceError as error:
            if self._is_accepted(error):
                return await self._accept_update(made, wanted, certain=not error.uncertain)
            await self._failed(made, error, undone=True)
            return True
        if replaced:
            await self._spread(made, partial(keep, journal=self._journal, stored=made))
        elif not await self._cancelled(made):
            raise ConnectionLost(reason=f"{self.name}: a dispatcher may have made it")
        return replaced

    async def _delete(self, wanted: Delete) -> bool:
        async def is_there() -> int:
            return await self._get(Get(wanted.kind, wanted.record_id, wanted.user_id)) is not None

        unmade = wanted.record_id in (await self._unmade(wanted.user_id)).kept
        return await self._delete_everywhere(delete_of(wanted), unmade, is_there) > 0

    async def _forget(self, wanted: Forget) -> int:
        if wanted.before is None:
            async with self._journal.moment() as moment:
                return await self._forget(replace(wanted, before=moment))
        unmade = len((await self._unmade(wanted.user_id)).created)
        return await self._delete_everywhere(delete_of(wanted), unmade, lambda: self._count(wanted))

    async def _unmade(self, user_id: str | None) -> Overlay:
        """What was acknowledged and waits for the primary of the user's memories, or knowledge."""
        if not self._accepts or not await self._journal.count():
            return Overlay()
        entries = await self._journal.of_user(user_id, under_way=False)
        return Overlay.of(entries, self._primary.name, stored_by_all=True)

    async def _count(self, wanted: Forget) -> int:
        """How many memories there are to be deleted."""
        page, count = Page(user_id=wanted.user_id, limit=_PAGE), 0
        while True:
            found = await self._page(page)
            count += sum(wanted.reaches(memory) for memory in found.memories)
            if found.next_cursor is None:
                return count
            page = replace(page, after=Cursor.decode(found.next_cursor))

    async def _delete_everywhere(
        self, delete: Write, unmade: int, count: Callable[[], Awaitable[int]]
    ) -> int:
        """How many records are deleted: on the primary, and of those that wait for it `unmade`.

        While the primary is away, and need not answer, the `count` of those that are there.
        """
        made = await self._journal.append([delete], self.members.names, self._lease())
        try:
            deleted = await self._primary.ask(partial(make, write=delete), patience=_PATIENCE)
        except MemoryServiceError as error:
            if self._is_accepted(error):
                counted = await count()
                await self._accept(made)
                return counted
            await self._hand_over(made)
            raise_uncertain(error)  # it is going to happen
        await self._spread(made, partial(make, write=delete))
        return deleted + unmade

    def _lease(self, records: int = 1) -> float:
        """Seconds."""
        return _LEASE * time_for(self._settings.timeout, records)

    async def _on_primary(
        self,
        made: Sequence[Entry],
        write: Callable[[RecordDriver], Awaitable[T]],
        records: int = 1,
    ) -> T:
        """Let the primary have what is stored; delete again what was deleted meanwhile.

        Raises `ConnectionLost` for whatever fails after it has that: it is not refused any more.
        """
        answer = await self._primary.ask(write, records=records, patience=_PATIENCE)
        try:
            for dead in await self._journal.dead(made):
                await self._primary.ask(partial(make, write=dead))
        except MemoryServiceError as error:
            raise ConnectionLost(reason=error.reason) from error
        return answer

    async def _failed(
        self, made: Sequence[Entry], error: MemoryServiceError, *, undone: bool
    ) -> None:
        """The primary did not take a store: the journal answers for it, or this raises.

        `undone`: the primary has nothing of it where the error says that it did not happen.
        """
        if self._is_accepted(error):
            await self._accept(made)
            return
        if not error.uncertain and undone and await self._cancelled(made):
            raise error
        await self._hand_over(made)
        raise_uncertain(error)  # it is going to happen

    def _is_accepted(self, error: MemoryServiceError) -> bool:
        """Whether the journal answers for a primary that failed so."""
        away = isinstance(error, DriverUnavailable | DriverTimeout)
        model = isinstance(error, EmbeddingQueueFull | EmbeddingUnavailable)
        return self._accepts and away and not model

    async def _accept(self, made: Sequence[Entry]) -> None:
        """The write happens: the dispatchers make it everywhere. Raises `JournalUnavailable`."""
        await self._journal.settle(made)
        self.members.wake_dispatchers()

    async def _accept_update(
        self, made: Sequence[Entry], wanted: Replace[Kept], *, certain: bool = True
    ) -> bool:
        """Accept it where the record is still the one that it replaces, as a read shows it.

        Every later update of that record waits in the journal for this one. `certain`: the primary
        does not have it. Raises `ConnectionLost` where nobody can tell.
        """
        record = wanted.record
        (entry,) = made
        kind: Kind = "memory" if isinstance(record, Memory) else "knowledge"
        try:
            found = await self._get(Get(kind, record_id(record), entry.user_id))
        except MemoryServiceError as error:
            await self._hand_over(made)
            raise_uncertain(error)
        if found is not None and found.updated_at in (wanted.over, record.updated_at):
            there = await self._journal.settle(made)
            self.members.wake_dispatchers()
            if there:
                return True
        elif certain and await self._cancelled(made):
            return False
        else:
            await self._hand_over(made)
        raise ConnectionLost(reason=f"{self.name}: the primary will decide about the update")

    async def _hand_over(self, made: Sequence[Entry]) -> None:
        """Let the dispatchers make the write everywhere, at the latest when the lease ends."""
        with suppress(JournalUnavailable):
            await self._journal.settle(made, decided=False)
        self.members.wake_dispatchers()

    async def _cancelled(self, made: Sequence[Entry]) -> bool:
        """Whether nobody will ever make these stores."""
        try:
            return await self._journal.cancel(made)
        except JournalUnavailable:
            return False

    async def _spread(
        self,
        made: Sequence[Entry],
        call: Callable[[RecordDriver], Awaitable[object]],
        records: int = 1,
    ) -> None:
        """The primary has the write: wait for who else must, and leave the rest to dispatchers."""
        wanted = {
            "journal": 0,
            "primary": 0,
            "quorum": len(self.inner) // 2,
            "all": len(self._replicas),
        }[self._settings.acknowledge]
        have = [self._primary.name]
        late: MemoryServiceError | None = None
        if wanted:
            tasks = {
                asyncio.create_task(node.ask(call, records=records)): node.name
                for node in self._replicas
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
        self.members.wake_dispatchers()
        if len(have) <= wanted:
            raise DriverTimeout(
                "Too few drivers have the write yet; it will reach the others.",
                reason=f"{self.name}: {len(have)} of {len(self.inner)} have the write",
            ) from late

    async def health_check(self) -> DriverHealth:
        return await self.members.health(_judge)


def _judge(inner: Sequence[DriverHealth], waiting: str | None) -> tuple[HealthStatus, str | None]:
    down = [health.driver for health in inner if health.status == "unavailable"]
    away = f"{', '.join(down)} can't be reached" if down else None
    detail = "; ".join(filter(None, [away, waiting, troubles(inner)])) or None
    if all(health.status == "unavailable" for health in inner):
        return "unavailable", detail
    return ("degraded" if detail else "ok"), detail
