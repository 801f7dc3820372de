"""The first driver that answers."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any, Self

from app import metrics
from app.core.memory.base import (
    BaseMemoryDriver,
    DriverContext,
    DriverHealth,
    HealthStatus,
    SupportsExport,
    SupportsGet,
    SupportsImport,
    require,
)
from app.core.memory.codec import record_id
from app.core.memory.records import (
    Knowledge,
    Memory,
    MemoryPage,
    Recalled,
    check_id,
    check_scope,
)
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
from app.journal.delivery import make
from app.journal.entries import Entry, Write, stores_of
from app.logs import get_logger
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.base import Call
from app.wrappers.breaker import Node
from app.wrappers.journalled import JournalledDriver
from app.wrappers.overlay import Overlay, Overlays, Pending, owner_of, paged
from app.wrappers.writes import answer, delete_of, records_of

_FORGOTTEN_SECONDS = 0.05
"""Between two looks whether a user is forgotten."""

_log = get_logger(__name__)


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
            if not self.inner[0].supports(SupportsImport):
                raise ConfigurationError(
                    f"drivers.{self.name}.writes: {self.inner[0].name} can't import records, "
                    "which writes = journal needs"
                )
            await self._embedder.open()
        await self._open_journal()
        errors = await self._open_inner()
        for node, error in zip(self._nodes, errors, strict=True):
            if error is not None:
                node.breaker.trip(error.reason)
        self._check_places()
        self._start_delivering()
        if all(errors):
            raise next(error for error in errors if error is not None)

    async def _read(self, call: Call) -> Any:
        pending = await self._pending_for(call)
        failures: list[MemoryServiceError] = []
        for node in self._nodes:
            overlay = Overlay.of(pending, node.name)
            try:
                found = await node.ask(_more(call, overlay, self._limits).on(node.driver))
            except EmbeddingQueueFull:
                raise
            except (DriverUnavailable, DriverTimeout) as error:
                failures.append(error)
                continue
            degraded = bool(failures)
            if degraded:
                metrics.FALLBACKS.labels(self.name, node.name).inc()
            if call.verb == "owner_of":
                return await self._owner(_id_of(call), pending, found, node)
            return await self._laid_over(call, overlay, found, node.name, degraded=degraded)
        raise self._nobody(failures)

    def _nobody(self, failures: Sequence[MemoryServiceError]) -> MemoryServiceError:
        """What to tell when no driver answers."""
        if all(isinstance(failure, EmbeddingUnavailable) for failure in failures):
            return failures[0]
        unavailable = DriverUnavailable(reason=f"{self.name}: none of its drivers answers")
        unavailable.__cause__ = failures[0]
        return unavailable

    async def _pending_for(self, call: Call) -> Sequence[Entry]:
        """The entries of the journal that concern a read; none where it can't be reached."""
        pending: Sequence[Entry] = ()
        try:
            if await self._journal.count():
                pending = await self._concerning(call)
        except JournalUnavailable as error:
            self._see(blind=True, reason=error.reason)
            return ()
        self._see(blind=False)
        return pending

    async def _concerning(self, call: Call) -> Sequence[Entry]:
        if call.verb == "owner_of":
            return await self._journal.of_record(_id_of(call))
        if "knowledge" in call.verb:
            return await self._journal.of_user(None)
        user_id = call.arguments["user_id"]
        check_scope(self._limits, user_id)
        return await self._journal.of_user(user_id)

    def _see(self, *, blind: bool, reason: str | None = None) -> None:
        if blind != self._blind:
            self._blind = blind
            event = "journal_unavailable" if blind else "journal_available"
            _log.warning(event, wrapper=self.name, reason=reason)

    async def _laid_over(
        self, call: Call, overlay: Overlay, found: Any, driver: str, *, degraded: bool
    ) -> Any:
        degraded = degraded or self._blind
        match call.verb:
            case "recall" | "explain_recall":
                memories: Sequence[Memory] = found
                if not overlay.empty:
                    memories = await self._pending.recall(overlay, found, call.arguments)
                return Recalled.like(found, memories, driver=driver, degraded=degraded)
            case "recall_global_knowledge":
                knowledge: Sequence[Knowledge] = found
                if not overlay.empty:
                    knowledge = await self._pending.recall_knowledge(overlay, found, call.arguments)
                return Recalled.like(found, knowledge, driver=driver, degraded=degraded)
            case "list_memories" if not overlay.empty:
                page: MemoryPage = found
                return paged(overlay, page, call.arguments)
            case "get" | "get_knowledge" if not overlay.empty:
                if found is None or overlay.hides(found):
                    return overlay.kept.get(_id_of(call))
        return found

    async def _owner(
        self, memory_id: str, pending: Sequence[Entry], found: str | None, node: Node
    ) -> str | None:
        """Whose the memory is, if it is there: the driver `found` its owner, or nobody."""
        waits = owner_of(pending, memory_id)
        if waits is not None or found is None:
            return waits
        late = [e for e in pending if node.name in e.owed and e.user_id in (None, found)]
        if any(entry.record_id == memory_id for entry in late):
            return None
        if late and self.supports(SupportsGet) and await self.get(memory_id, found) is None:
            return None  # it is from before the user was deleted
        return found

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        """All that the first driver which answers has, with what the journal holds laid over it.

        Raises what that driver raises once the first record was given, and `DriverTimeout` when the
        next does not come in time.
        """
        pending = await self._journal.everything()
        failures: list[MemoryServiceError] = []
        for node in self._nodes:
            records = require(node.driver, SupportsExport).export_records()
            try:
                record = await node.ask(anext(records, None))
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

    async def _write(self, call: Call) -> Any:
        for driver in self.inner if "delete" in call.verb else self.inner[:1]:
            call.check(driver)
        delete = delete_of(call, self._limits)
        if delete is not None:
            return await self._delete(delete)
        primary = self._nodes[0]
        records = await records_of(call, self._limits)
        users = sorted({record.user_id for record in records if isinstance(record, Memory)})
        known = call.verb == "import_records"  # else the ids are new: nobody has deleted them
        ids = [record_id(record) for record in records] if known else []
        if not self._journals:
            await self._wait_forgotten(users, ids)
            return await primary.ask(call.on(primary.driver), records=len(records))
        if records:
            started = monotonic()
            importing = require(primary.driver, SupportsImport)
            try:
                if await self._journal.has_to_wait(users, primary.name, ids):
                    raise DriverUnavailable(reason=f"{primary.name} has to forget them first")
                await primary.ask(importing.import_records(records), records=len(records))
            except (EmbeddingQueueFull, JournalUnavailable):
                raise
            except (DriverUnavailable, DriverTimeout):
                await self._journal.append(
                    stores_of(records), [primary.name], since=started, known=known
                )
                self._deliverers[primary.name].wake()
        return answer(call, records)

    async def _wait_forgotten(self, users: Sequence[str], ids: Sequence[str]) -> None:
        """Wait until the primary has deleted what it still has to: it would delete new ones too.

        Raises `DriverUnavailable`.
        """
        primary = self._nodes[0].name
        try:
            async with asyncio.timeout(self._settings.timeout):
                while await self._journal.has_to_wait(users, primary, ids):
                    self._deliverers[primary].wake()
                    await asyncio.sleep(_FORGOTTEN_SECONDS)
        except TimeoutError as error:
            reason = f"{primary} has to forget them first"
            raise DriverUnavailable(reason=reason) from error

    async def _delete(self, delete: Write) -> bool | int:
        pending = 0
        if await self._journal.count():
            entries = await self._journal.of_user(delete.user_id)
            kept = Overlay.of(entries, self._names[0]).kept
            gone = delete.verb == "delete_user"
            pending = sum(gone or key == delete.record_id for key in kept)
        timeout = self._settings.timeout
        started = monotonic()
        made = await self._journal.append([delete], self._names, hold=3 * timeout)
        # Once the delete is held no more, drivers may have got it, and later stores of the user.
        late = monotonic() - started > timeout
        answers: Sequence[bool | int | BaseException] = [DriverTimeout()] * len(self._nodes)
        if not late:
            answers = await asyncio.gather(
                *(node.ask(make(node.driver, delete)) for node in self._nodes),
                return_exceptions=True,
            )
        reached = [
            node.name
            for node, each in zip(self._nodes, answers, strict=True)
            if not isinstance(each, BaseException)
        ]
        await self._journal.settle(made, reached)
        self._wake_deliverers()
        for each in answers:
            expected = (DriverUnavailable, DriverTimeout)
            if isinstance(each, BaseException) and not isinstance(each, expected):
                raise each
        counts = [int(each) for each in answers if not isinstance(each, BaseException)]
        if delete.verb == "delete_user":
            return max(counts, default=0) + pending
        away = len(reached) < len(self._nodes)
        return any(counts) or pending > 0 or away

    def _facts(self) -> dict[str, Any]:
        return {"left_alone": [n.name for n in self._nodes if n.breaker.state == "open"]}

    def _state(
        self, inner: Sequence[DriverHealth], waiting: str | None
    ) -> tuple[HealthStatus, str | None]:
        down = [health.driver for health in inner if health.status == "unavailable"]
        if not down:
            alone = ", ".join(n.name for n in self._nodes if n.breaker.state == "open")
            detail = "; ".join(filter(None, [alone and f"{alone} is left alone", waiting])) or None
            return ("degraded" if detail else "ok"), detail
        away = "; ".join(filter(None, [f"{', '.join(down)} can't be reached", waiting]))
        serves = [health.driver for health in inner if health.status != "unavailable"]
        if not serves:
            return "unavailable", away
        return "degraded", f"{away}; {serves[0]} answers"


def _id_of(call: Call) -> str:
    """The id of the record that the call asks for; raises `InvalidInput`."""
    field = "knowledge_id" if "knowledge" in call.verb else "memory_id"
    return str(check_id(call.arguments[field], field))


def _more(call: Call, overlay: Overlay, limits: Limits) -> Call:
    """The call with room for what the overlay hides."""
    if not overlay.deleted or "top_k" not in call.arguments:
        return call
    top_k = call.arguments["top_k"]
    if not isinstance(top_k, int) or top_k > limits.top_k:
        return call
    more = min(limits.top_k, top_k + len(overlay.deleted))
    return Call(call.verb, {**call.arguments, "top_k": more})
