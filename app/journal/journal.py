"""The journal: writes that are durable before they are answered, until every driver has them.

An entry is one write for all the drivers that have to get it. It is leased to its writer at first,
who is busy with it; when the lease ends it is pending for each driver, and that driver's dispatcher
takes the oldest first. What a healthy driver refuses is a dead letter.

    append ──▶ leased ──settle──▶ pending for each driver ──settle──▶ gone
                 │ cancel             │ refuse
                 ▼                    ▼
                gone             dead letter

A delete leaves a tombstone, in the same transaction. After a store the dispatcher asks for
tombstones, and deletes again what has one. A store that follows a delete which is pending for a
driver is made there once more after that delete. So all drivers end as if every write had been made
in the order of the entries, whatever the order was.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from time import monotonic, time
from typing import Any, TypeAlias

from sqlalchemy import (
    ColumnElement,
    Select,
    and_,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.records import record_id
from app.errors import JournalUnavailable
from app.journal.database import Database
from app.journal.entries import Entry, Lag, Span, Write
from app.journal.order import (
    before_a_delete,
    behind,
    late_deletes,
    parts,
    take_turns,
    waiting_writes,
)
from app.journal.tables import deliveries, entries, targets, tombstones
from app.journal.tombstones import Tombstones, bury
from app.journal.waiting import lags, refuse_stranded, waiting
from app.settings import JournalSettings

_TOMBSTONE_SECONDS = 86_400.0
"""A tombstone is kept that long, and as long as an older entry is in the journal."""

Claim: TypeAlias = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Journal:
    """One wrapping driver's part of the journal."""

    def __init__(
        self,
        settings: JournalSettings,
        wrapper: str,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` raises `ConfigurationError` where it must not be used; it is asked each time."""
        self.database = Database(settings, wrapper, self._prepare, check)
        self._wrapper = wrapper
        self._mine: ColumnElement[bool] = entries.c.wrapper == wrapper
        self.drivers: Sequence[str] = ()
        """The names of those it delivers to."""
        self._known: int | None = None
        self._seen: int | None = None
        self._changes = 0

    @property
    def shared(self) -> bool:
        """Whether other processes write to it too."""
        return self.database.shared

    @property
    def interval(self) -> float:
        """Seconds between two looks for what others left to deliver."""
        return self.database.interval

    @property
    def cluster(self) -> str | None:
        """Which PostgreSQL it is in, where that is known."""
        return self.database.cluster

    async def open(self, drivers: Sequence[str]) -> None:
        """Connect and make what is missing; twice is harmless.

        Raises `ConfigurationError`, also where writes wait for others than `drivers`; or
        `JournalUnavailable`: then it opens itself when it can.
        """
        self.drivers = drivers
        self._changed()
        self._seen = None
        await self.database.open()

    async def _prepare(self, connection: AsyncConnection) -> None:
        await refuse_stranded(connection, self._wrapper, self.drivers)
        rows = [{"wrapper": self._wrapper, "target": driver} for driver in self.drivers]
        new: Any = pg_insert(targets) if self.shared else sqlite_insert(targets)
        await connection.execute(new.values(rows).on_conflict_do_nothing())
        if not self.shared:  # the process that had the leases is gone
            await connection.execute(update(entries).where(self._mine).values(leased_until=0.0))
        # What a driver refused may be mended by now: once more at each start.
        await self._retry_dead_letters(connection)

    async def close(self) -> None:
        """Disconnect, after what is under way."""
        await self.database.close()

    async def append(
        self,
        writes: Sequence[Write],
        drivers: Sequence[str],
        lease: float = 0.0,
        since: float | None = None,
        known: bool = False,
    ) -> list[Entry]:
        """Keep the writes for all of `drivers`, all or none; durable when it returns.

        They are leased to the caller for `lease` seconds: no dispatcher takes them before, unless
        they are settled. The caller first tried them at `since`, by the monotonic clock, or will
        only now. The ids of what is stored are `known` where it is stored again.
        """

        async def work(connection: AsyncConnection) -> list[Entry]:
            if self.shared:
                await take_turns(connection, self._wrapper, writes)
            now = self.database.now
            tried = 0.0 if since is None else monotonic() - since
            given = (
                insert(entries)
                .values(created_at=now - tried, leased_until=now + lease)
                .returning(entries.c.seq, entries.c.created_at, sort_by_parameter_order=True)
            )
            rows = [
                {
                    "wrapper": self._wrapper,
                    "verb": write.verb,
                    "user_id": write.user_id,
                    "record_id": write.record_id,
                    "records": codec.encode(write.records),
                }
                for write in writes
            ]
            made = [
                Entry(
                    verb=write.verb,
                    user_id=write.user_id,
                    record_id=write.record_id,
                    records=write.records,
                    seq=seq,
                    created_at=created_at,
                )
                for write, (seq, created_at) in zip(
                    writes, await connection.execute(given, rows), strict=True
                )
            ]
            due = [
                {"seq": entry.seq, "target": driver, "dead_letter": False}
                for entry in made
                for driver in drivers
            ]
            await connection.execute(insert(deliveries), due)
            await bury(connection, self._wrapper, [entry for entry in made if not entry.stores])
            late = await behind(
                connection, self._wrapper, [entry for entry in made if entry.stores], known
            )
            return [replace(entry, behind=late.get(entry.seq, frozenset())) for entry in made]

        return await self.database.transaction(work, then=self._changed)

    async def settle(self, made: Sequence[Entry], drivers: Sequence[str] = ()) -> None:
        """These drivers have the writes; for the others they are due now.

        A store stays due for a driver that it is behind a delete of.
        """
        seqs = [entry.seq for entry in made]

        async def work(connection: AsyncConnection) -> None:
            # Of two who settle an entry at once, the second sees what the first did.
            mine = select(entries.c.seq).where(entries.c.seq.in_(seqs)).order_by(entries.c.seq)
            await connection.execute(mine.with_for_update())
            if drivers:
                have = and_(deliveries.c.seq.in_(seqs), deliveries.c.target.in_(drivers))
                again = [(entry.seq, driver) for entry in made for driver in entry.behind]
                if again:
                    have &= ~tuple_(deliveries.c.seq, deliveries.c.target).in_(again)
                await connection.execute(delete(deliveries).where(have))
            left = exists().where(deliveries.c.seq == entries.c.seq)
            await connection.execute(delete(entries).where(entries.c.seq.in_(seqs), ~left))
            await connection.execute(
                update(entries)
                .where(entries.c.seq.in_(seqs), entries.c.leased_until > 0)
                .values(leased_until=0.0)
            )

        await self.database.transaction(work, then=self._changed)

    async def cancel(self, made: Sequence[Entry]) -> bool:
        """Forget stores that did not happen; whether all could be.

        One whose lease has ended is left: a dispatcher may have made it.
        """
        seqs = [entry.seq for entry in made]

        async def work(connection: AsyncConnection) -> bool:
            undone = select(entries.c.seq).where(
                entries.c.seq.in_(seqs), entries.c.leased_until > self.database.now
            )
            gone = (await connection.execute(undone.with_for_update())).scalars().all()
            await connection.execute(delete(deliveries).where(deliveries.c.seq.in_(gone)))
            await connection.execute(delete(entries).where(entries.c.seq.in_(gone)))
            return len(gone) == len(seqs)

        return await self.database.transaction(work, then=self._changed)

    async def refuse(self, entry: Entry, driver: str) -> None:
        """The driver will never take the write."""
        await self.database.execute(
            update(deliveries)
            .where(deliveries.c.seq == entry.seq, deliveries.c.target == driver)
            .values(dead_letter=True)
        )

    async def retry_dead_letters(self, driver: str) -> None:
        """Let what the driver refused be tried once more."""
        await self.database.transaction(partial(self._retry_dead_letters, driver=driver))

    async def _retry_dead_letters(
        self, connection: AsyncConnection, driver: str | None = None
    ) -> None:
        refused = (
            select(entries.c.seq)
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(self._mine, deliveries.c.dead_letter)
            .order_by(entries.c.seq)
            .with_for_update(of=entries)  # in the order in which others take them
        )
        if driver is not None:
            refused = refused.where(deliveries.c.target == driver)
        seqs = (await connection.execute(refused)).scalars().all()
        for some in parts(seqs):
            again = update(deliveries).where(deliveries.c.seq.in_(some), deliveries.c.dead_letter)
            if driver is not None:
                again = again.where(deliveries.c.target == driver)
            await connection.execute(again.values(dead_letter=False))

    async def has_to_wait(
        self, user_ids: Sequence[str], driver: str, ids: Sequence[str] = ()
    ) -> bool:
        """Whether a store has to come after what waits for the driver: see `waiting_writes`.

        Without the journal, no: if it was empty when it was last seen.
        """
        try:
            if not await self.count():
                return False
        except JournalUnavailable:
            if self._seen == 0:
                return False
            raise
        for wanted in waiting_writes(self._wrapper, user_ids, ids, driver):
            if await self.database.rows(wanted):
                return True
        return False

    async def under_way(self, driver: str) -> Span | None:
        """The places of the writes that the driver still has to get and did not refuse."""
        if not await self.count():
            return None
        wanted = (
            select(func.min(entries.c.seq), func.max(entries.c.seq))
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(self._mine, deliveries.c.target == driver, ~deliveries.c.dead_letter)
        )
        ((oldest, newest),) = await self.database.rows(wanted)
        return None if oldest is None else Span(oldest, newest)

    async def due(self, driver: str, after: str | None, limit: int) -> list[Entry]:
        """What the driver has to get next, oldest first; only what `after`, another, has."""
        now = self.database.now
        wanted = (
            select(entries)
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(
                self._mine,
                deliveries.c.target == driver,
                ~deliveries.c.dead_letter,
                entries.c.leased_until <= now,
                ~before_a_delete(self._wrapper, driver, now),
            )
        )
        for late in await self.database.rows(late_deletes(self._wrapper, driver, now)):
            again = and_(entries.c.seq > late.seq, entries.c.records.contains(late.record_id))
            wanted = wanted.where(~again)
        if after is not None:
            first = deliveries.alias("first")
            wanted = wanted.where(
                ~exists().where(first.c.seq == entries.c.seq, first.c.target == after)
            )
        return await self._entries(wanted.order_by(deliveries.c.seq).limit(limit))

    async def of_user(self, user_id: str | None) -> list[Entry]:
        """What concerns the user's memories, or, without a user, knowledge; oldest first."""
        if user_id is None:
            concerned: ColumnElement[bool] = entries.c.verb.in_(
                ("store_knowledge", "delete_knowledge")
            )
        else:
            anyones = and_(entries.c.verb == "delete", entries.c.user_id.is_(None))
            concerned = or_(entries.c.user_id == user_id, anyones)
        return await self._pending(concerned)

    async def of_record(self, memory_id: str) -> list[Entry]:
        """What may concern the memory, whoever owns it; oldest first."""
        stored = and_(entries.c.verb == "store", entries.c.records.contains(memory_id))
        deleted = and_(entries.c.verb == "delete", entries.c.record_id == memory_id)
        return await self._pending(or_(stored, deleted, entries.c.verb == "delete_user"))

    async def everything(self) -> list[Entry]:
        """All that is in it, oldest first."""
        return await self._pending() if await self.count() else []

    async def _pending(self, *concerned: ColumnElement[bool]) -> list[Entry]:
        wanted = select(entries).where(self._mine, *concerned).order_by("seq")
        found = await self._entries(wanted)
        pending: dict[int, set[str]] = {}
        seqs = [entry.seq for entry in found]
        for some in parts(seqs):
            theirs = select(deliveries).where(deliveries.c.seq.in_(some))
            for row in await self.database.rows(theirs):
                pending.setdefault(row.seq, set()).add(row.target)
        # A delete may be settled before an earlier store, which its driver could not take yet.
        stores = [entry for entry in found if entry.stores]
        gone = await Tombstones.of(self.database, self._wrapper, stores)
        return [
            replace(
                entry.without(gone.killed(entry)),
                pending_for=frozenset(pending.get(entry.seq, ())),
            )
            for entry in found
        ]

    async def dead(self, stored: Sequence[Entry]) -> list[Entry]:
        """Of these stores, oldest first, the records that are deleted, as the deletes to make.

        Not what is stored again by a later one of them.
        """
        gone = await Tombstones.of(self.database, self._wrapper, stored)
        found: dict[str, Entry] = {}
        for entry in stored:
            killed = gone.killed(entry)
            for one in map(record_id, entry.records):
                if one not in killed:
                    found.pop(one, None)
                    continue
                found[one] = Entry(
                    verb=entry.deleted_by,
                    user_id=entry.user_id,
                    record_id=one,
                    seq=entry.seq,
                    created_at=entry.created_at,
                )
        return list(found.values())

    async def count(self) -> int:
        """How many writes are in it. A file's are known without looking."""
        if self._known is not None:
            return self._known
        count: int
        changes = self._changes
        counting = select(func.count()).select_from(entries).where(self._mine)
        ((count,),) = await self.database.rows(counting)
        if changes == self._changes:
            self._seen = count
            if not self.shared:
                self._known = count
        return count

    def _changed(self) -> None:
        self._known = self._seen = None
        self._changes += 1

    async def waits(self, driver: str) -> bool:
        """Whether a write that nobody is busy with any more waits for the driver."""
        if not await self.count():
            return False
        wanted = (
            select(entries.c.seq)
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(
                self._mine,
                deliveries.c.target == driver,
                entries.c.leased_until <= self.database.now,
            )
            .limit(1)
        )
        return bool(await self.database.rows(wanted))

    async def lag(self) -> dict[str, Lag]:
        """What each driver still has to get."""
        rows = await self.database.rows(waiting().where(self._mine))
        return {driver: lag for (_, driver), lag in lags(rows).items()}

    async def behind(self, first: str) -> set[str]:
        """The drivers that still have to get a write which the driver `first` has.

        What `first` still has to get itself was not acknowledged to anybody.
        """
        if not await self.count():
            return set()
        its = deliveries.alias("its")
        wanted = (
            select(deliveries.c.target)
            .distinct()
            .join(entries, entries.c.seq == deliveries.c.seq)
            .where(
                self._mine,
                ~exists().where(its.c.seq == deliveries.c.seq, its.c.target == first),
            )
        )
        return {row.target for row in await self.database.rows(wanted)}

    async def forget(self) -> None:
        """Drop the tombstones that nothing can need any more."""
        older = (
            select(func.coalesce(func.min(entries.c.seq), 2**62))
            .where(self._mine)
            .scalar_subquery()
        )
        await self.database.execute(
            delete(tombstones).where(
                tombstones.c.wrapper == self._wrapper,
                tombstones.c.created_at < time() - _TOMBSTONE_SECONDS,
                tombstones.c.seq < older,
            )
        )

    @asynccontextmanager
    async def claim(self, driver: str) -> AsyncIterator[Claim | None]:
        """To deliver alone to the driver in the block; what it gives asks whether it still is so.

        That raises `JournalUnavailable`. None where another process delivers.
        """
        if not self.shared:
            yield _nothing
            return
        row = select(targets).where(targets.c.wrapper == self._wrapper, targets.c.target == driver)
        async with self.database.begin() as connection:
            locked = await connection.execute(row.with_for_update(skip_locked=True))

            async def ask() -> None:
                await connection.execute(select(1))

            yield ask if locked.first() is not None else None

    async def _entries(self, wanted: Select[Any]) -> list[Entry]:
        rows = await self.database.rows(wanted)
        return [
            Entry(
                verb=row.verb,
                user_id=row.user_id,
                record_id=row.record_id,
                records=codec.decode(row.records),
                seq=row.seq,
                created_at=row.created_at,
            )
            for row in rows
        ]
