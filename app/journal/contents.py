"""What is in a journal: for reads, for the dispatchers and for health checks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, or_, select

from app.core.memory import codec
from app.journal.database import Database
from app.journal.entries import Entry, Lag, Span
from app.journal.tables import deliveries, entries, parts, to_moment
from app.journal.tombstones import Tombstones
from app.journal.waiting import lags, waiting

_READS = 10
"""How often entries are read again where a put came meanwhile, at most."""


class Contents:
    """The entries of one wrapping driver, to be read.

    Every call raises `JournalUnavailable` where the journal can't be reached.
    """

    def __init__(self, database: Database, wrapper: str) -> None:
        self.database = database
        self._wrapper = wrapper
        self._mine: ColumnElement[bool] = entries.c.wrapper == wrapper
        self._known: int | None = None
        self._changes = 0

    @property
    def shared(self) -> bool:
        """Whether other processes share the journal."""
        return self.database.shared

    @property
    def interval(self) -> float:
        """Seconds between two looks of a dispatcher for what other processes left pending."""
        return self.database.interval

    @property
    def cluster(self) -> str | None:
        """The PostgreSQL cluster that the journal is in, where that is known."""
        return self.database.cluster

    async def of_user(self, user_id: str | None, *, under_way: bool = True) -> list[Entry]:
        """The entries that concern the user's memories or, without a user, knowledge; oldest first.

        Without `under_way`, those that are leased to a writer are left out.
        """
        if user_id is None:
            of_knowledge = entries.c.verb.in_(
                ("store_knowledge", "delete_knowledge", "put_document")
            )
            concerned: ColumnElement[bool] = and_(of_knowledge, entries.c.user_id.is_(None))
        else:
            anyones = and_(entries.c.verb == "delete", entries.c.user_id.is_(None))
            concerned = or_(entries.c.user_id == user_id, anyones)
        return await self._pending(concerned, under_way=under_way)

    async def of_record(self, memory_id: str, *, under_way: bool = True) -> list[Entry]:
        """The entries that may concern the memory, whoever owns it; oldest first."""
        stored = and_(entries.c.verb == "store", entries.c.records.contains(memory_id))
        deleted = and_(entries.c.verb == "delete", entries.c.record_id == memory_id)
        everywhere = entries.c.verb.in_(("delete_user", "put_document"))
        concerned = or_(stored, deleted, everywhere)
        return await self._pending(concerned, under_way=under_way)

    async def users(self, *, under_way: bool = True) -> tuple[set[str], set[str]]:
        """The users whose memories some entry concerns.

        And the ids of the memories that are to be deleted, whoever owns them.
        """
        if not await self.count():
            return set(), set()
        wanted = (
            select(entries.c.user_id, entries.c.record_id)
            .where(self._mine, or_(entries.c.verb == "delete", entries.c.user_id.is_not(None)))
            .distinct()
        )
        if not under_way:
            wanted = wanted.where(entries.c.leased_until <= self.database.now)
        rows = await self.database.rows(wanted)
        anyones = {row.record_id for row in rows if row.user_id is None}
        return {row.user_id for row in rows if row.user_id is not None}, anyones

    async def everything(self, *, under_way: bool = True) -> list[Entry]:
        """All entries, oldest first."""
        return await self._pending(under_way=under_way)

    async def _pending(self, *concerned: ColumnElement[bool], under_way: bool) -> list[Entry]:
        if not await self.count():
            return []
        wanted = select(entries).where(self._mine, *concerned).order_by("seq")
        if not under_way:  # a put is never cancelled, and has replaced what is older already
            over = entries.c.leased_until <= self.database.now
            wanted = wanted.where(or_(over, entries.c.verb == "put_document"))
        found, gone = await self._with_tombstones(wanted)
        pending: dict[int, set[str]] = {}
        seqs = [entry.seq for entry in found]
        for some in parts(seqs):
            theirs = select(deliveries).where(deliveries.c.seq.in_(some))
            for row in await self.database.rows(theirs):
                pending.setdefault(row.seq, set()).add(row.target)
        return [
            replace(
                entry.without(gone.deletes(entry)),
                pending_for=frozenset(pending.get(entry.seq, ())),
            )
            for entry in found
        ]

    async def _with_tombstones(self, wanted: Select[Any]) -> tuple[list[Entry], Tombstones]:
        """The entries, and what deletes their records.

        A put may come between the two, and delete what is among the entries while its own records
        are not: then both are read again.
        """
        for _ in range(_READS):
            found = await self._entries(wanted)
            stores = [entry for entry in found if entry.records]
            gone = await Tombstones.of(self.database, self._wrapper, stores)
            puts = {put.seq for entry in stores for put in gone.puts_over(entry)}
            came = puts.difference(entry.seq for entry in found)
            there = [
                select(entries.c.seq).where(entries.c.seq.in_(some)) for some in parts([*came])
            ]
            if not any([await self.database.rows(asked) for asked in there]):
                break
        return found, gone

    async def dead(self, stored: Sequence[Entry], driver: str) -> list[Entry]:
        """The deletes to make on the driver, once each, as records of the stores have tombstones.

        Of a document that was put since it is the put: with its records as long as it is pending
        for the driver, and otherwise, as the driver has those, without.
        """
        gone = await Tombstones.of(self.database, self._wrapper, stored)
        later = {put.seq: put for entry in stored for put in gone.puts_over(entry)}
        if later:
            wanted = (
                select(entries)
                .join(deliveries, deliveries.c.seq == entries.c.seq)
                .where(entries.c.seq.in_([*later]), deliveries.c.target == driver)
            )
            puts = await self._entries(wanted)
            own = await Tombstones.of(self.database, self._wrapper, puts)
            later |= {put.seq: put.without(own.deletes(put)) for put in puts}
        found = {
            (each.verb, each.user_id, each.record_id): Entry(
                verb=each.verb,
                user_id=each.user_id,
                record_id=each.record_id,
                before=each.before,
                seq=entry.seq,
                created_at=entry.created_at,
            )
            for entry in stored
            for each in gone.deletes_by_id(entry)
        }
        return [*found.values(), *later.values()]

    async def count(self) -> int:
        """How many entries there are. The count of a file is remembered until it changes."""
        if self._known is not None:
            return self._known
        count: int
        changes = self._changes
        counting = select(func.count()).select_from(entries).where(self._mine)
        ((count,),) = await self.database.rows(counting)
        if changes == self._changes and not self.shared:
            self._known = count
        return count

    def _changed(self) -> None:
        self._known = None
        self._changes += 1

    async def waits(self, driver: str) -> bool:
        """Whether a write that is not leased is pending for the driver."""
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
        """What is pending, by driver."""
        rows = await self.database.rows(waiting().where(self._mine))
        return {driver: lag for (_, driver), lag in lags(rows).items()}

    async def pending_span(self, driver: str) -> Span | None:
        """The places of what is pending for the driver, leased or not, but for dead letters.

        None where nothing is pending.
        """
        if not await self.count():
            return None
        wanted = (
            select(func.min(entries.c.seq), func.max(entries.c.seq))
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(self._mine, deliveries.c.target == driver, ~deliveries.c.dead_letter)
        )
        ((oldest, newest),) = await self.database.rows(wanted)
        return None if oldest is None else Span(oldest, newest)

    async def to_deliver(self, driver: str, after: str | None, limit: int) -> list[Entry]:
        """The next entries to deliver to the driver, oldest first, `limit` at most.

        Leased entries and dead letters are left out; with `after`, so is what is still pending for
        that other driver.
        """
        wanted = (
            select(entries)
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(
                self._mine,
                deliveries.c.target == driver,
                ~deliveries.c.dead_letter,
                entries.c.leased_until <= self.database.now,
            )
        )
        if after is not None:
            first = deliveries.alias("first")
            wanted = wanted.where(
                ~exists().where(first.c.seq == entries.c.seq, first.c.target == after)
            )
        return await self._entries(wanted.order_by(deliveries.c.seq).limit(limit))

    async def _entries(self, wanted: Select[Any]) -> list[Entry]:
        rows = await self.database.rows(wanted)
        return [
            Entry(
                verb=row.verb,
                user_id=row.user_id,
                record_id=row.record_id,
                records=codec.decode(row.records),
                before=to_moment(row.before),
                replaces=to_moment(row.replaces),
                doc_id=row.doc_id,
                seq=row.seq,
                created_at=row.created_at,
            )
            for row in rows
        ]
