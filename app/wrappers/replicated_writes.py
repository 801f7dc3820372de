"""The writes of replicated: in the journal first, then on the primary, then on the replicas."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar, cast

from app.core.memory.once import is_same, placed, repeated
from app.core.memory.pages import count_document, every_page
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Record, record_id
from app.core.memory.requests import Delete, Forget, Get, Keep, Page, Put, Replace
from app.errors import (
    ConnectionLost,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    JournalUnavailable,
    MemoryServiceError,
    raise_uncertain,
)
from app.journal.dispatcher import delete_dead, keep, put
from app.journal.entries import Entry, deletes_of, once_of, stores_of, update_of
from app.settings import ReplicatedSettings
from app.wrappers.members import Members
from app.wrappers.node import Node, time_for
from app.wrappers.overlay import Overlay, Waiting
from app.wrappers.pending_reads import PendingReads

T = TypeVar("T")

_PATIENCE = 2
"""The primary is waited for that many times as long as a replica."""
_LEASE = 4
"""An entry is leased for that many times what a replica is waited for: no write takes longer.
If one did, dispatchers would make it too, which changes nothing."""
_PAGE = 100


class ReplicatedWrites:
    """Makes each write on the primary, waits for the replicas that must have it too.

    Dispatchers bring it to the rest.
    """

    def __init__(
        self,
        members: Members,
        settings: ReplicatedSettings,
        driver: RecordDriver,
        reads: PendingReads,
    ) -> None:
        """`driver`: the replicated driver, whose reads show what a caller sees."""
        self._members = members
        self._settings = settings
        self._driver = driver
        self._reads = reads
        self._journal = members.journal
        self._primary, *self._replicas = members.nodes

    @property
    def _accepts(self) -> bool:
        """Whether the journal answers for a primary that is away."""
        return self._settings.acknowledge == "journal"

    async def keep(self, wanted: Keep[Kept]) -> None:
        """Keep the records.

        A primary that refuses new records has none of them; of an import it may have some.
        """
        records = wanted.records
        arguments = stores_of(records), self._members.names, self._lease(len(records))
        if wanted.new:
            made = await self._journal.append(*arguments)
        else:
            made = await self._members.import_with(lambda: self._journal.append_import(*arguments))
        try:
            await self._on_primary(made, lambda driver: driver._keep(Keep(records)), len(records))
        except MemoryServiceError as error:
            await self._failed(made, error, undone=wanted.new)
            return
        await self._spread(made, self._keeping(made, len(records)))

    async def keep_once(self, records: Sequence[Kept]) -> Sequence[Kept]:
        """Keep each record where nothing is under its id: the primary decides.

        What the journal answered for and the primary lacks is the answer for its id.
        """
        writes, lease = once_of(records), self._lease(len(records))
        found = await self._members.import_with(
            lambda: self._journal.append_once(writes, self._members.names, lease, undecided=False)
        )
        made = {place: each for place, each in enumerate(found) if isinstance(each, Entry)}
        answer: dict[int, Record] = {
            place: each for place, each in enumerate(found) if not isinstance(each, Entry)
        }
        if made:
            asked = [records[place] for place in made]
            with placed(list(made)):
                answer |= zip(made, await self._keep_once([*made.values()], asked), strict=True)
        return [cast(Kept, answer[place]) for place in range(len(records))]

    async def _keep_once(self, made: Sequence[Entry], records: Sequence[Kept]) -> Sequence[Record]:
        wanted = Keep(records, once=True)
        try:
            there = await self._on_primary(made, lambda driver: driver._keep(wanted), len(records))
        except MemoryServiceError as error:
            if self._is_accepted(error):
                return await self._accept_once(made, records, certain=not error.uncertain)
            await self._failed(made, error, undone=True)
            raise
        pairs = list(zip(made, records, there, strict=True))
        mine = [entry for entry, record, found in pairs if is_same(found, record)]
        if len(mine) < len(made):
            await self._cancelled([entry for entry in made if entry not in mine])
        if mine:
            await self._spread(mine, self._keeping(mine, len(mine)))
        return there

    async def _accept_once(
        self, made: Sequence[Entry], records: Sequence[Kept], *, certain: bool
    ) -> Sequence[Record]:
        """Let the journal answer for the stores under whose ids a reader sees nothing.

        `certain`: the primary has none of the stores; if not, it will decide about the others.
        """
        try:
            answer: dict[int, Record] = {
                place: repeated(found, record, place)
                for place, record in enumerate(records)
                if (found := await self._driver._get(Get.of(record))) is not None
                and not is_same(found, record)
            }
            mine = [place for place in range(len(made)) if place not in answer]
            with placed(mine):
                accepted = await self._journal.accept_once([made[place] for place in mine])
        except MemoryServiceError as error:
            if certain and await self._cancelled(made):
                raise
            await self._hand_over(made)
            raise_uncertain(error)
        for place, there in zip(mine, accepted, strict=True):
            answer[place] = records[place] if there is None else there
        others = [made[place] for place, there in answer.items() if there is not records[place]]
        if others and not (certain and await self._cancelled(others)):
            await self._hand_over(others)
        self._members.wake_dispatchers()
        return [answer[place] for place in range(len(records))]

    async def replace(self, wanted: Replace[Kept]) -> bool:
        """Whether the record is, or will be, in the place of the one that `wanted` names."""
        update, names = update_of(wanted), self._members.names

        def append() -> Awaitable[list[Entry]]:
            return self._journal.append_update(
                update, wanted.over, names, self._lease(), joins=wanted.joins
            )

        made = await self._members.import_with(append)
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
            await self._spread(made, self._keeping(made))
        elif not await self._cancelled(made):
            raise ConnectionLost(reason=f"{self._driver.name}: a dispatcher may have made it")
        return replaced

    async def put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        """Replace the document; its new records, and how many others there were."""
        if self._primary.reachability.away and not self._accepts:
            raise DriverUnavailable(reason=f"{self._primary.name} is left alone")
        records = len(wanted.records)
        unmade = await self._unmade(wanted.user_id)
        seen = 0
        if self._accepts and not records:
            seen = await count_document(self._driver._page, self._driver._page_knowledge, wanted)
        async with self._members.putting(wanted, self._lease(records)) as (given, entry):
            call = partial(put, journal=self._journal, entry=entry)
            try:
                deleted = await self._primary.ask(call, records=records, patience=_PATIENCE)
            except MemoryServiceError as error:
                if self._is_accepted(error):
                    await self._accept([entry])
                    return given.records, seen
                await self._hand_over([entry])
                raise_uncertain(error)  # it is going to happen
            await self._spread([entry], lambda node: node.ask(call, records=records))
        return given.records, deleted + unmade.replaced_by(given)

    async def delete(self, wanted: Delete | Forget) -> int:
        """Delete the records; how many were there.

        While the primary is away and the journal answers, those count that a reader sees.
        """
        unmade = await self._reads.waiting(wanted, self._primary) if self._accepts else Waiting()
        lease = self._lease(len(wanted.ids) if isinstance(wanted, Delete) else 1)
        made = await self._journal.append(deletes_of(wanted), self._members.names, lease)
        async with self._journal.leased(made, lease):
            try:
                deleted = await self._primary.delete(wanted, patience=_PATIENCE)
            except MemoryServiceError as error:
                if self._is_accepted(error):
                    seen = await self._seen(wanted)  # by now without what is pending
                    await self._accept(made)
                    return len(seen | unmade.pending)
                await self._hand_over(made)
                raise_uncertain(error)  # it is going to happen
            await self._spread(made, lambda node: node.delete(wanted))
        count = unmade.counted_with(deleted)
        return min(count, len(wanted.ids)) if isinstance(wanted, Delete) else count

    async def _seen(self, wanted: Delete | Forget) -> set[str]:
        """The ids of the records to be deleted that a reader sees."""
        if isinstance(wanted, Delete):
            gets = (Get(wanted.kind, each, wanted.user_id) for each in wanted.ids)
            return {get.record_id for get in gets if await self._driver._get(get) is not None}
        pages = every_page(self._driver._page, Page(user_id=wanted.user_id, limit=_PAGE))
        return {
            memory.memory_id
            async for memories in pages
            for memory in memories
            if wanted.reaches(memory)
        }

    async def _unmade(self, user_id: str | None) -> Overlay:
        """What the journal answered for and is pending on the primary: the user's, or knowledge."""
        return await self._reads.pending(user_id, self._primary) if self._accepts else Overlay()

    def _lease(self, records: int = 1) -> float:
        """The lease of a write of so many records, in seconds."""
        return _LEASE * time_for(self._settings.timeout, records)

    async def _on_primary(
        self,
        made: Sequence[Entry],
        write: Callable[[RecordDriver], Awaitable[T]],
        records: int = 1,
    ) -> T:
        """Make the store on the primary; delete again what was deleted meanwhile.

        Raises `ConnectionLost` for an error that comes when the primary has the store: that is not
        refused any more.
        """
        answer = await self._primary.ask(write, records=records, patience=_PATIENCE)
        try:
            dead = await self._journal.dead(made, self._primary.name)
            if dead:
                gone = partial(delete_dead, journal=self._journal, dead=dead)
                await self._primary.ask(gone, records=len(dead))
        except MemoryServiceError as error:
            raise ConnectionLost(reason=error.reason) from error
        return answer

    async def _failed(
        self, made: Sequence[Entry], error: MemoryServiceError, *, undone: bool
    ) -> None:
        """The primary did not take a store: let the journal answer for it, or raise.

        `undone`: after an error that is certain, the primary has nothing of the store.
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
        self._members.wake_dispatchers()

    async def _accept_update(
        self, made: Sequence[Entry], wanted: Replace[Kept], *, certain: bool = True
    ) -> bool:
        """Accept it where the record is still the one that it replaces, as a read shows it.

        Every later update of that record waits in the journal for this one. `certain`: the primary
        does not have it. Raises `ConnectionLost` where nobody can tell.
        """
        record = wanted.record
        try:
            found = await self._driver._get(Get.of(record))
        except MemoryServiceError as error:
            await self._hand_over(made)
            raise_uncertain(error)
        if found is not None and found.updated_at in (wanted.over, record.updated_at):
            there = await self._journal.settle(made)
            self._members.wake_dispatchers()
            if there:
                return True
        elif certain and await self._cancelled(made):
            return False
        else:
            await self._hand_over(made)
        raise ConnectionLost(
            reason=f"{self._driver.name}: the primary will decide about the update"
        )

    async def _hand_over(self, made: Sequence[Entry]) -> None:
        """Let the dispatchers make the write everywhere, at the latest when the lease ends."""
        with suppress(JournalUnavailable):
            await self._journal.settle(made, decided=False)
        self._members.wake_dispatchers()

    async def _cancelled(self, made: Sequence[Entry]) -> bool:
        """Remove the stores from the journal; whether nobody will ever make them."""
        try:
            return await self._journal.cancel(made)
        except JournalUnavailable:
            return False

    def _keeping(
        self, made: Sequence[Entry], records: int = 1
    ) -> Callable[[Node], Awaitable[object]]:
        """What keeps the entries' records, so many, on a node."""
        call = partial(keep, journal=self._journal, stored=made)
        return lambda node: node.ask(call, records=records)

    async def _spread(
        self, made: Sequence[Entry], write: Callable[[Node], Awaitable[object]]
    ) -> None:
        """The primary has the write: wait for the replicas that must, and settle.

        `write` makes it on one of them.
        """
        all_of_them = len(self._members.nodes)
        wanted = {
            "journal": 0,
            "primary": 0,
            "quorum": all_of_them // 2,
            "all": len(self._replicas),
        }[self._settings.acknowledge]
        have = [self._primary.name]
        late: MemoryServiceError | None = None

        async def written(node: Node) -> object:
            return await write(node)

        if wanted:
            tasks = {asyncio.create_task(written(node)): node.name for node in self._replicas}
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
        self._members.wake_dispatchers()
        if len(have) <= wanted:
            raise DriverTimeout(
                "Too few drivers have the write yet; it will reach the others.",
                reason=f"{self._driver.name}: {len(have)} of {all_of_them} have the write",
            ) from late
