"""Keeps new writes in the journal: each kind in one transaction, which decides what has to be."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import (
    insert,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.clock import Clock
from app.core.memory.records import Record, record_id
from app.errors import ConnectionLost, DeletePending
from app.journal.contents import Contents
from app.journal.entries import Entry, Write
from app.journal.once import lock, pending
from app.journal.tables import (
    deliveries,
    entries,
    from_moment,
)
from app.journal.tombstones import Lifted, bury, is_put, lift
from app.journal.versions import versions


class Appending(Contents):
    """The part of `Journal` that takes writes."""

    clock: Clock
    """Gives the wrapping driver's records and forgets their times."""
    drivers: Sequence[str] = ()
    """The names of the drivers that it delivers to."""

    async def append(
        self, writes: Sequence[Write], drivers: Sequence[str], lease: float = 0.0
    ) -> list[Entry]:
        """Keep the writes for all of `drivers`, all or none; durable when it returns.

        They are leased to the caller for `lease` seconds: until then no dispatcher takes them,
        unless the caller settles them.
        """
        return await self.database.transaction(
            lambda connection: self._append(connection, writes, drivers, lease), then=self._changed
        )

    async def append_import(
        self, writes: Sequence[Write], drivers: Sequence[str], lease: float = 0.0
    ) -> list[Entry]:
        """`append` for the stores of an import; it lifts the tombstones of their records.

        Raises `DeletePending` while the delete is pending for a driver, or an older store of what
        it deleted.
        """

        async def work(connection: AsyncConnection) -> list[Entry]:
            await lift(connection, self._wrapper, writes)
            return await self._append(connection, writes, drivers, lease)

        return await self.database.transaction(work, then=self._changed)

    async def lift(self, stored: Sequence[Write], *, of: Lifted = "everything") -> None:
        """Lift the tombstones of what an import stores without an entry of its own.

        Raises `DeletePending` as `append_import` does.
        """
        await self.database.transaction(
            lambda connection: lift(connection, self._wrapper, stored, of=of), then=self._changed
        )

    async def pending_once(
        self, writes: Sequence[Write], *, undecided: bool
    ) -> list[Record | None]:
        """What is pending for the first driver under the ids of these stores of one record each.

        Lifts the tombstones of their records, as `append_import` does, and raises `DeletePending`
        as it does. `undecided` is as of `append_once`. Raises `Conflict` with the place of a store
        of which the pending one is another request.
        """
        return await self.database.transaction(
            lambda connection: self._pending_once(connection, writes, undecided)
        )

    async def append_once(
        self,
        writes: Sequence[Write],
        drivers: Sequence[str],
        lease: float = 0.0,
        *,
        undecided: bool,
    ) -> list[Entry | Record]:
        """`append` for stores under callers' ids, but for what is pending for the first driver.

        In the place of such a store is the pending record. `undecided`: the stores that this made
        were answered, although the first driver may still find other records there. Raises what
        `pending_once` raises.
        """

        async def work(connection: AsyncConnection) -> list[Entry | Record]:
            found = await self._pending_once(connection, writes, undecided)
            new = [write for write, there in zip(writes, found, strict=True) if there is None]
            made = iter(await self._append(connection, new, drivers, lease) if new else ())
            return [next(made) if there is None else there for there in found]

        return await self.database.transaction(work, then=self._changed)

    async def _pending_once(
        self, connection: AsyncConnection, writes: Sequence[Write], undecided: bool
    ) -> list[Record | None]:
        ids = [record_id(record) for write in writes for record in write.records]
        await lock(connection, self.database, self._wrapper, ids)
        await lift(connection, self._wrapper, writes, of="records")
        return await self._waiting_once(connection, writes, undecided)

    async def _waiting_once(
        self, connection: AsyncConnection, writes: Sequence[Write], undecided: bool
    ) -> list[Record | None]:
        first, now = self.drivers[0], self.clock.now()
        return await pending(connection, self._wrapper, first, writes, undecided=undecided, now=now)

    async def accept_once(self, made: Sequence[Entry]) -> list[Record | None]:
        """These stores under callers' ids happen, but for those of which one was accepted before.

        In their places are the records that are pending. Raises `Conflict` as `append_once` does,
        and `ConnectionLost` where a dispatcher has decided about a store: nothing is accepted then.
        """
        if not made:
            return []
        seqs = [entry.seq for entry in made]

        async def work(connection: AsyncConnection) -> list[Record | None]:
            ids = [record_id(record) for entry in made for record in entry.records]
            await lock(connection, self.database, self._wrapper, ids)
            mine = select(entries.c.seq).where(entries.c.seq.in_(seqs)).order_by(entries.c.seq)
            there = (await connection.execute(mine.with_for_update())).all()
            if len(there) < len(seqs):
                raise ConnectionLost(reason=f"{self._wrapper}: a dispatcher has decided")
            found = await self._waiting_once(connection, made, undecided=False)
            first = [seq for seq, known in zip(seqs, found, strict=True) if known is None]
            happens = update(entries).where(entries.c.seq.in_(first))
            await connection.execute(happens.values(replaces=None, leased_until=0.0))
            return found

        return await self.database.transaction(work, then=self._changed)

    async def append_update(
        self,
        write: Write,
        over: datetime,
        drivers: Sequence[str],
        lease: float = 0.0,
        *,
        waiting: bool = False,
        joins: bool = False,
    ) -> list[Entry]:
        """The same for an update; nothing where a later version than `over` is on its way.

        `waiting`: nothing either where `over` is not in the journal any more. One process at a
        time looks for that. Raises `ConnectionLost` where the update itself is on its way. An
        update that `joins` a document lifts the tombstones of its puts, and raises `DeletePending`
        while one, or another version of the record, is pending for a driver.
        """
        (record,) = write.records
        one = record_id(record)

        async def work(connection: AsyncConnection) -> list[Entry]:
            await lock(connection, self.database, self._wrapper, [one])
            known = await versions(connection, self._wrapper, write, refused=waiting)
            if record.updated_at in known:
                raise ConnectionLost(reason=f"{self._wrapper}: the update is on its way")
            if any(each > over for each in known) or (waiting and over not in known):
                return []
            if joins and known:
                raise DeletePending(reason=f"{self._wrapper}: another version is pending")
            if joins:
                await lift(connection, self._wrapper, [write], of="documents")
            return await self._append(connection, [write], drivers, lease)

        return await self.database.transaction(work, then=self._changed)

    async def append_put(
        self, write: Write, drivers: Sequence[str], lease: float = 0.0
    ) -> list[Entry]:
        """The same for a put; nothing where another process has put the document at its moment."""

        async def work(connection: AsyncConnection) -> list[Entry]:
            document = f"{write.user_id or ''} {write.doc_id}"
            await lock(connection, self.database, self._wrapper, [document])
            if await is_put(connection, self._wrapper, write):
                return []
            return await self._append(connection, [write], drivers, lease)

        return await self.database.transaction(work, then=self._changed)

    async def _append(
        self,
        connection: AsyncConnection,
        writes: Sequence[Write],
        drivers: Sequence[str],
        lease: float,
    ) -> list[Entry]:
        now = self.database.now
        given = (
            insert(entries)
            .values(created_at=now, leased_until=now + lease)
            .returning(entries.c.seq, entries.c.created_at, sort_by_parameter_order=True)
        )
        rows = [
            {
                "wrapper": self._wrapper,
                "verb": write.verb,
                "user_id": write.user_id,
                "record_id": write.record_id,
                "records": codec.encode(write.records),
                "before": from_moment(write.before),
                "replaces": from_moment(write.replaces),
                "doc_id": write.doc_id,
            }
            for write in writes
        ]
        made = [
            Entry(
                verb=write.verb,
                user_id=write.user_id,
                record_id=write.record_id,
                records=write.records,
                before=write.before,
                replaces=write.replaces,
                doc_id=write.doc_id,
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
        return made
