"""The journal: each write is durable before its caller gets an answer, until every driver has it.

An entry is one write for all the drivers that must get it. At first the entry is leased to its
writer; when the lease ends it is pending for each driver, and that driver's dispatcher takes the
oldest entry first. A write that a healthy driver refuses is a dead letter.

    append ──▶ leased ──settle──▶ pending for each driver ──settle──▶ gone
                 │ cancel             │ refuse
                 ▼                    ▼
                gone             dead letter

Writes commute. A record replaces an older version of itself, a delete names a record and leaves a
tombstone, a forget names the moment up to which it deletes, and so does a put, up to which moment
it replaces a document. After a store the dispatcher looks for tombstones, and deletes the records
that have one. So all drivers end equal, in whatever order and however often they get the writes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from functools import partial
from time import time
from typing import Any, TypeAlias

from sqlalchemy import (
    and_,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory.clock import Clock
from app.errors import JournalUnavailable
from app.journal.appending import Appending
from app.journal.database import Database
from app.journal.entries import Entry
from app.journal.tables import (
    deliveries,
    entries,
    parts,
    targets,
    tombstones,
)
from app.journal.waiting import refuse_stranded
from app.settings import JournalSettings
from app.tasks import end

_TOMBSTONE_SECONDS = 86_400.0
"""A tombstone is kept that long, and as long as an older entry is in the journal."""

_SKEW = timedelta(milliseconds=50)
"""More than clocks that share a journal ever differ, as each follows the server's."""

_COMPARISONS = 5
"""How often a process asks a slow server for the time."""

Claim: TypeAlias = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    pass


class Journal(Appending):
    """One wrapping driver's part of the journal."""

    def __init__(
        self,
        settings: JournalSettings,
        wrapper: str,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check`, called before each use, raises `ConfigurationError` where that must not be."""
        super().__init__(Database(settings, wrapper, self._prepare, check), wrapper)
        self._skew = _SKEW
        self.clock = Clock()

    async def open(self, drivers: Sequence[str]) -> None:
        """Connect and make what is missing; twice is harmless.

        Raises `ConfigurationError`, also where writes are pending for a driver that is not among
        `drivers`; or `JournalUnavailable`: then the journal opens itself when its server is there.
        """
        self.drivers = drivers
        self._changed()
        await self.database.open()

    async def _prepare(self, connection: AsyncConnection) -> None:
        await refuse_stranded(connection, self._wrapper, self.drivers)
        rows = [{"wrapper": self._wrapper, "target": driver} for driver in self.drivers]
        new: Any = pg_insert(targets) if self.shared else sqlite_insert(targets)
        await connection.execute(new.values(rows).on_conflict_do_nothing())
        if not self.shared:  # the process that had the leases is gone
            await connection.execute(update(entries).where(self._mine).values(leased_until=0.0))
        last = select(func.max(tombstones.c.before)).where(tombstones.c.wrapper == self._wrapper)
        forgotten = (await connection.execute(last)).scalar() or 0
        self.clock.set_floor(forgotten / 1_000_000)
        await self._compare_clocks(connection)
        # What a driver refused may be mended by now: once more at each start.
        await self._retry_dead_letters(connection)

    async def close(self) -> None:
        """Disconnect when the running transactions have ended."""
        await self.database.close()

    async def _compare_clocks(self, connection: AsyncConnection) -> None:
        """Let the clock follow the server's, as the clocks of all who share the journal do."""
        for _ in range(_COMPARISONS if self.shared else 0):
            sent = time()
            said = (await connection.execute(select(self.database.now))).scalar_one()
            received = time()
            self.clock.follow(float(said), sent, received)
            self._skew = max(_SKEW, timedelta(seconds=received - sent))
            if self._skew == _SKEW:
                return

    @asynccontextmanager
    async def moment(self) -> AsyncIterator[datetime]:
        """A moment after all that was stored before the block, and before all that comes after it.

        That holds for every process that shares the journal, and so the block takes a tenth of a
        second at least where the journal is shared.
        """
        if not self.shared:
            yield self.clock.end_of_now()
            return
        skew = self._skew
        moment = self.clock.end_of_now() + skew
        try:
            yield moment
        finally:
            left = moment + skew - self.clock.now()
            await asyncio.sleep(left.total_seconds())

    @asynccontextmanager
    async def leased(self, made: Sequence[Entry], lease: float) -> AsyncIterator[None]:
        """For the time of a block, renew the lease of entries that were appended with it.

        A lease that has ended is not renewed: a dispatcher may be making the write.
        """
        renewing = asyncio.create_task(self._renew([entry.seq for entry in made], lease))
        try:
            yield
        finally:
            await end(renewing)

    async def _renew(self, seqs: Sequence[int], lease: float) -> None:
        while True:
            await asyncio.sleep(lease / 2)
            now = self.database.now
            mine = and_(entries.c.seq.in_(seqs), entries.c.leased_until > now)
            with suppress(JournalUnavailable):
                await self.database.execute(
                    update(entries).where(mine).values(leased_until=now + lease)
                )

    async def settle(
        self, made: Sequence[Entry], drivers: Sequence[str] = (), *, decided: bool = True
    ) -> bool:
        """These drivers have the writes; for the others they are due now. Whether all were there.

        Unless `decided`, the first driver has still to decide whether an update happens.
        """
        seqs = [entry.seq for entry in made]
        mine = entries.c.seq.in_(seqs)

        async def work(connection: AsyncConnection) -> bool:
            # Of two who settle an entry at once, the second sees what the first did.
            locked = select(entries.c.seq).where(mine).order_by(entries.c.seq)
            there = (await connection.execute(locked.with_for_update())).all()
            if drivers:
                have = and_(deliveries.c.seq.in_(seqs), deliveries.c.target.in_(drivers))
                await connection.execute(delete(deliveries).where(have))
            left = exists().where(deliveries.c.seq == entries.c.seq)
            await connection.execute(delete(entries).where(mine, ~left))
            free = update(entries).where(mine, entries.c.leased_until > 0)
            await connection.execute(free.values(leased_until=0.0))
            if decided and any(entry.replaces is not None for entry in made):
                await connection.execute(update(entries).where(mine).values(replaces=None))
            return len(there) == len(seqs)

        return await self.database.transaction(work, then=self._changed)

    async def withdraw(self, entry: Entry) -> bool:
        """The first driver decided against the update: nobody gets it.

        False where it was decided meanwhile that the update happens: then it stays.
        """

        async def work(connection: AsyncConnection) -> bool:
            mine = select(entries.c.replaces).where(entries.c.seq == entry.seq)
            found = (await connection.execute(mine.with_for_update())).first()
            if found is not None and found.replaces is None:
                return False
            await connection.execute(delete(deliveries).where(deliveries.c.seq == entry.seq))
            await connection.execute(delete(entries).where(entries.c.seq == entry.seq))
            return True

        return await self.database.transaction(work, then=self._changed)

    async def cancel(self, made: Sequence[Entry]) -> bool:
        """Remove stores that did not happen; whether all could be removed.

        A store whose lease has ended stays: a dispatcher may have made it.
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
        """Make the write a dead letter of the driver."""
        await self.database.execute(
            update(deliveries)
            .where(deliveries.c.seq == entry.seq, deliveries.c.target == driver)
            .values(dead_letter=True)
        )

    async def retry_dead_letters(self, driver: str) -> None:
        """Make the driver's dead letters pending again."""
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

    async def drop_tombstones(self) -> None:
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
        """For the time of a block, let no other process deliver to the driver.

        Gives a call that raises `JournalUnavailable` if this process has lost that lock; None where
        another process delivers.
        """
        if not self.shared:
            yield _nothing
            return
        row = select(targets).where(targets.c.wrapper == self._wrapper, targets.c.target == driver)
        async with self.database.begin() as connection:
            await self._compare_clocks(connection)
            locked = await connection.execute(row.with_for_update(skip_locked=True))

            async def ask() -> None:
                await connection.execute(select(1))

            yield ask if locked.first() is not None else None
