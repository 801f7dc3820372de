"""The first driver that answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, Self, TypeVar

from app import metrics
from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth, HealthStatus
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Knowledge, Memory, MemoryPage, Recalled, Record, record_id
from app.core.memory.requests import Delete, Forget, Get, Keep, Page, Recall, RecallKnowledge
from app.embedding import Embedder
from app.errors import (
    ConfigurationError,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    JournalUnavailable,
    MemoryServiceError,
)
from app.journal.dispatcher import make
from app.journal.entries import Entry, Write, delete_of, stores_of
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.journalled import JournalledDriver, troubles
from app.wrappers.node import Node
from app.wrappers.overlay import Overlay, Overlays, Pending, kept_memory, paged

T = TypeVar("T")
Asked = TypeVar("Asked", Recall, RecallKnowledge)

_FORGOTTEN_SECONDS = 0.05
"""Between two looks whether a user is forgotten."""


class FailoverDriver(JournalledDriver):
    """Reads from the first of its drivers that answers, in order; writes to the first, the primary.

    With `writes=journal` a store that the primary can't take is accepted into the journal and
    brought to it when it is back; reads see it meanwhile. Deletes reach every driver, now or
    through the journal, whatever `writes` is; while one is away and no other has the memory, a
    delete answers that it deleted.
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
        super().__init__(inner, journal, limits, name)
        self._settings = settings
        self._embedder = embedder
        self._pending = Pending(embedder)
        for driver in self.inner:
            self._hold(driver, settings.timeout)
        self._blind = False
        """Whether reads go on without a journal that can't be reached."""

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
        """Open every driver; those that are not there come back by themselves.

        Raises `ConfigurationError`, or `DriverUnavailable` when none is there.
        """
        if self._journals:
            if not self.inner[0].complete:
                raise ConfigurationError(
                    f"drivers.{self.name}.writes: {self.inner[0].name} can't import records, "
                    "which writes = journal needs"
                )
            await self._embedder.open()
        await self._open_journal()
        errors = await self._open_inner()
        for node, error in zip(self.nodes, errors, strict=True):
            if error is not None:
                node.reachability.lost(error.reason)
        self._check_places()
        self._start_delivering()
        if all(errors):
            raise next(error for error in errors if error is not None)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        pending = await self._concerning(partial(self.journal.of_user, wanted.user_id))

        def ask(node: Node) -> Awaitable[list[Memory]]:
            more = self._with_room(wanted, Overlay.of(pending, node.name))
            return node.ask(lambda driver: driver._recall(more))

        found, node, degraded = await self._first(ask)
        overlay = Overlay.of(pending, node.name)
        memories = found if overlay.empty else await self._pending.recall(overlay, found, wanted)
        return Recalled.like(found, memories, driver=node.name, degraded=degraded)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        pending = await self._concerning(partial(self.journal.of_user, None))

        def ask(node: Node) -> Awaitable[list[Knowledge]]:
            more = self._with_room(wanted, Overlay.of(pending, node.name))
            return node.ask(lambda driver: driver._recall_knowledge(more))

        found, node, degraded = await self._first(ask)
        overlay = Overlay.of(pending, node.name)
        knowledge = found
        if not overlay.empty:
            knowledge = await self._pending.recall_knowledge(overlay, found, wanted)
        return Recalled.like(found, knowledge, driver=node.name, degraded=degraded)

    async def _page(self, wanted: Page) -> MemoryPage:
        pending = await self._concerning(partial(self.journal.of_user, wanted.user_id))
        found, node, _ = await self._first(
            lambda node: node.ask(lambda driver: driver._page(wanted))
        )
        overlay = Overlay.of(pending, node.name)
        return found if overlay.empty else paged(overlay, found, wanted)

    async def _get(self, wanted: Get) -> Record | None:
        if wanted.kind == "memory" and wanted.user_id is None:
            return await self._get_anyone_s(wanted)
        pending = await self._concerning(partial(self.journal.of_user, wanted.user_id))
        found, node, _ = await self._first(
            lambda node: node.ask(lambda driver: driver._get(wanted))
        )
        overlay = Overlay.of(pending, node.name)
        if found is None or overlay.hides(found):
            return overlay.kept.get(wanted.record_id)
        return found

    async def _get_anyone_s(self, wanted: Get) -> Record | None:
        """The memory, whoever owns it: as the journal keeps it, or as its owner would get it."""
        pending = await self._concerning(partial(self.journal.of_record, wanted.record_id))
        kept = kept_memory(pending, wanted.record_id)
        if kept is not None:
            return kept
        found, _, _ = await self._first(lambda node: node.ask(lambda driver: driver._get(wanted)))
        if not pending or not isinstance(found, Memory):
            return found
        return await self._get(Get("memory", wanted.record_id, found.user_id))

    async def _first(self, ask: Callable[[Node], Awaitable[T]]) -> tuple[T, Node, bool]:
        """The first answer, who gave it, and whether it may lack something."""
        failures: list[MemoryServiceError] = []
        for node in self.nodes:
            try:
                found = await ask(node)
            except EmbeddingQueueFull:
                raise
            except (DriverUnavailable, DriverTimeout) as error:
                failures.append(error)
                continue
            if failures:
                metrics.FALLBACKS.labels(self.name, node.name).inc()
            return found, node, bool(failures) or self._blind
        raise self._nobody(failures)

    def _nobody(self, failures: Sequence[MemoryServiceError]) -> MemoryServiceError:
        """What to tell when no driver answers."""
        if all(isinstance(failure, EmbeddingUnavailable) for failure in failures):
            return failures[0]
        unavailable = DriverUnavailable(reason=f"{self.name}: none of its drivers answers")
        unavailable.__cause__ = failures[0]
        return unavailable

    async def _concerning(
        self, entries: Callable[[], Awaitable[Sequence[Entry]]]
    ) -> Sequence[Entry]:
        """The `entries` of the journal that concern a read; none where it can't be reached."""
        pending: Sequence[Entry] = ()
        try:
            if await self.journal.count():
                pending = await entries()
        except JournalUnavailable:
            self._blind = True
            return ()
        self._blind = False
        return pending

    def _with_room(self, wanted: Asked, overlay: Overlay) -> Asked:
        """The same, with room for what the overlay hides."""
        if not overlay.deleted or wanted.top_k > self._limits.top_k:
            return wanted
        more = min(self._limits.top_k, wanted.top_k + len(overlay.deleted))
        return replace(wanted, top_k=more)

    async def _export(self) -> AsyncIterator[Record]:
        """All that the first driver which answers has, with what the journal holds laid over it.

        Raises what that driver raises once the first record was given, and `DriverTimeout` when the
        next does not come in time.
        """
        pending = await self.journal.everything()
        failures: list[MemoryServiceError] = []
        for node in self.nodes:
            records = node.driver._export()

            def first(_: RecordDriver, records: AsyncIterator[Record] = records) -> Awaitable[Any]:
                return anext(records, None)

            try:
                record: Record | None = await node.ask(first)
            except (DriverUnavailable, DriverTimeout) as error:
                failures.append(error)
                continue
            overlays = Overlays(pending, node.name)
            while record is not None:
                if not overlays[record].replaces(record):
                    yield record
                try:
                    async with asyncio.timeout(self._settings.timeout):
                        record = await anext(records, None)
                except TimeoutError as error:
                    raise DriverTimeout(reason=f"{node.name}: no answer in time") from error
            for kept in overlays.kept():
                yield kept
            return
        raise self._nobody(failures)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        primary, records = self.nodes[0], wanted.records
        users = sorted({record.user_id for record in records if isinstance(record, Memory)})
        ids = [] if wanted.new else [record_id(record) for record in records]
        if not self._journals:
            await self._wait_forgotten(users, ids)
            return await primary.ask(lambda driver: driver._keep(wanted), records=len(records))
        started = monotonic()
        try:
            if await self.journal.has_to_wait(users, primary.name, ids):
                raise DriverUnavailable(reason=f"{primary.name} has to forget them first")
            # By the journal they may come there once more, so nobody can say that they are new.
            await primary.ask(lambda driver: driver._keep(Keep(records)), records=len(records))
        except (EmbeddingQueueFull, JournalUnavailable):
            raise
        except (DriverUnavailable, DriverTimeout):
            await self.journal.append(
                stores_of(records), [primary.name], since=started, known=not wanted.new
            )
            self.dispatchers[primary.name].wake()
        return records

    async def _wait_forgotten(self, users: Sequence[str], ids: Sequence[str]) -> None:
        """Wait until the primary has deleted what it still has to: it would delete new ones too.

        Raises `DriverUnavailable`.
        """
        primary = self.nodes[0].name
        try:
            async with asyncio.timeout(self._settings.timeout):
                while await self.journal.has_to_wait(users, primary, ids):
                    self.dispatchers[primary].wake()
                    await asyncio.sleep(_FORGOTTEN_SECONDS)
        except TimeoutError as error:
            reason = f"{primary} has to forget them first"
            raise DriverUnavailable(reason=reason) from error

    async def _delete(self, wanted: Delete) -> bool:
        pending = await self._kept_in_journal(wanted.user_id)
        counts = await self._delete_everywhere(delete_of(wanted))
        away = len(counts) < len(self.nodes)
        return any(counts) or wanted.record_id in pending or away

    async def _forget(self, wanted: Forget) -> int:
        pending = await self._kept_in_journal(wanted.user_id)
        counts = await self._delete_everywhere(delete_of(wanted))
        return max(counts, default=0) + len(pending)

    async def _kept_in_journal(self, user_id: str | None) -> Set[str]:
        """The ids of the user's memories, or of knowledge, that the primary has not got yet."""
        if not await self.journal.count():
            return frozenset()
        entries = await self.journal.of_user(user_id)
        return Overlay.of(entries, self._names[0]).kept.keys()

    async def _delete_everywhere(self, delete: Write) -> list[int]:
        """How much each driver that could be reached has deleted; the others will."""
        timeout = self._settings.timeout
        started = monotonic()
        made = await self.journal.append([delete], self._names, lease=3 * timeout)
        # When the lease has ended, drivers may have got the delete, and later stores of the user.
        late = monotonic() - started > timeout
        answers: Sequence[int | BaseException] = [DriverTimeout()] * len(self.nodes)
        if not late:
            answers = await asyncio.gather(
                *(node.ask(lambda driver: make(driver, delete)) for node in self.nodes),
                return_exceptions=True,
            )
        reached = {
            node.name: answer
            for node, answer in zip(self.nodes, answers, strict=True)
            if not isinstance(answer, BaseException)
        }
        await self.journal.settle(made, list(reached))
        self._wake_dispatchers()
        for each in answers:
            expected = (DriverUnavailable, DriverTimeout)
            if isinstance(each, BaseException) and not isinstance(each, expected):
                raise each
        return list(reached.values())

    def _facts(self) -> dict[str, Any]:
        return {"left_alone": [n.name for n in self.nodes if n.reachability.away]}

    def _state(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        down = [health.driver for health in inner if health.status == "unavailable"]
        if not down:
            alone = ", ".join(n.name for n in self.nodes if n.reachability.away)
            alone = alone and f"{alone} is left alone"
            detail = "; ".join(filter(None, [alone, waiting, troubles(inner)])) or None
            return ("degraded" if detail else "ok"), detail
        away = f"{', '.join(down)} can't be reached"
        away = "; ".join(filter(None, [away, waiting, troubles(inner)]))
        serves = [health.driver for health in inner if health.status != "unavailable"]
        if not serves:
            return "unavailable", away
        return "degraded", f"{away}; {serves[0]} answers"
