"""Users whose memories stay in the service's memory, as PostgreSQL has them at every recall.

A user is kept with the snapshot that the memories were read by. Before each use PostgreSQL tells
whether a transaction that the snapshot does not see has changed any of them (`memory_changes`);
what has changed is read. docs/decisions/0025 proves that nothing is missed.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import asyncpg
from asyncpg.transaction import Transaction

from app.core.memory.filter import Filter
from app.drivers.pgvector.checking import Checking, changed
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.resident import Resident, ResidentReader, server_of
from app.drivers.pgvector.sql import recall as sql
from app.errors import MemoryServiceError
from app.logs import get_logger
from app.ranking.candidates import Mask
from app.tasks import end

_LEFT_SECONDS = 300.0
"""How long a user who does not fit, or of whom no changes are told, is not read again."""
_MOST_WANTED = 1_000
"""Users who wait to be read; of more, those who came first are left."""
_SHARE = 0.5
"""Of the memory that there is, what one user may take."""

_log = get_logger(__name__)

Ask = Callable[[str, str], Awaitable[asyncpg.Record]]
"""Asks whether a user changed since a snapshot."""


class Checked(NamedTuple):
    """A user as kept, and what a snapshot that PostgreSQL took later says of it."""

    resident: Resident
    snapshot: str
    changed: bool


class Residents:
    """At most `size` bytes of users, least recently used out first; with 0 nobody is kept."""

    def __init__(
        self, connections: Connections, generation: Generation, *, size: int, context: bool
    ) -> None:
        self._connections = connections
        self._reader = ResidentReader(generation, context=context)
        self._checking = Checking(connections)
        self._size = size
        self._users: OrderedDict[str, Resident] = OrderedDict()
        self._changing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._left: dict[str, float] = {}
        """Until when users are not read, by the monotonic clock."""
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._reading: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """Keep nobody any more."""
        reading, self._reading = self._reading, None
        await end(reading)
        await self._checking.stop()
        self.forget()

    def forget(self) -> None:
        """Keep nobody of those who are kept; who is recalled again is read again."""
        self._users.clear()
        self._wanted.clear()
        self._left.clear()

    def facts(self) -> dict[str, Any]:
        """How many users are kept, and in how many megabytes, for `/health`."""
        size = sum(resident.all_bytes for resident in self._users.values())
        return {"resident_users": len(self._users), "resident_mb": round(size / 1e6, 1)}

    async def find(self, user_id: str) -> Resident | None:
        """The user's memories as they are now; None where they are not kept."""
        if not self._size:
            return None
        if user_id not in self._users:
            self._want(user_id)
            return None
        kept = await self._checked(user_id, self._checking.ask)
        if kept is None or not kept.changed:
            return kept and kept.resident
        changing = self._changing.setdefault(user_id, asyncio.Lock())
        # Who waits has no connection: others, of other users, need them.
        async with changing, self._connections.acquire() as connection, _at_once(connection):
            # Others may have been quicker, and what changed may have been forgotten.
            kept = await self._checked(user_id, partial(_ask_alone, connection))
            if kept is None or not kept.changed:
                return kept and kept.resident
            renewed = await self._reader.renewed(connection, user_id, kept.resident, kept.snapshot)
        if renewed is None:
            self._read_again(user_id)
        else:
            self._keep(user_id, renewed)
        return renewed

    def admitted(self, resident: Resident, wanted: Filter) -> Mask | None:
        """Which candidates of a user who is kept the filter lets through; None: all."""
        before = resident.all_bytes
        mask = resident.admitted(wanted)
        if resident.all_bytes > before:
            self._fit()
        return mask

    async def _checked(self, user_id: str, ask: Ask) -> Checked | None:
        """The user as kept, and whether something changed since; None if nobody is to be kept."""
        resident = self._users.get(user_id)
        if resident is None:
            return None
        row = await ask(user_id, resident.snapshot)
        if not row["told"] or server_of(row) != resident.server:
            self._read_again(user_id)
            return None
        if row["changed"]:
            return Checked(resident, row["snapshot"], changed=True)
        seen = replace(resident, snapshot=row["snapshot"])
        if self._users.get(user_id) is resident:
            self._users[user_id] = seen
            self._users.move_to_end(user_id)
        return Checked(seen, row["snapshot"], changed=False)

    def _want(self, user_id: str) -> None:
        """Read the user in the background, after those who are wanted already."""
        if self._left.get(user_id, 0.0) > monotonic():
            return
        self._wanted[user_id] = None
        if len(self._wanted) > _MOST_WANTED:
            self._wanted.popitem(last=False)
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read_wanted())

    async def _read_wanted(self) -> None:
        while self._wanted:
            user_id, _ = self._wanted.popitem(last=False)
            if user_id in self._users:
                continue
            try:
                resident = await self._read(user_id)
            except MemoryServiceError as error:
                _log.debug("resident_not_read", reason=error.reason)
                continue
            if resident is not None:
                self._keep(user_id, resident)

    async def _read(self, user_id: str) -> Resident | None:
        """All of the user; None where that is too much, or PostgreSQL does not tell of changes."""
        async with self._connections.acquire() as connection, _at_once(connection):
            reading = await connection.fetchrow(sql.READING)
            resident = None
            if reading is not None and reading["told"] and not reading["standby"]:
                most = _SHARE * self._size
                resident = await self._reader.whole(connection, user_id, reading, most)
        if resident is None:
            self._leave(user_id)
        return resident

    def _keep(self, user_id: str, resident: Resident) -> None:
        if resident.size > self._size:
            self.drop(user_id)
            return
        self._users[user_id] = resident
        self._users.move_to_end(user_id)
        self._fit()

    def _fit(self) -> None:
        total = sum(kept.all_bytes for kept in self._users.values())
        while total > self._size:
            oldest = next(iter(self._users))
            total -= self._users[oldest].all_bytes
            self.drop(oldest)

    def drop(self, user_id: str) -> None:
        """Keep the user no more; who is recalled again is read again."""
        self._users.pop(user_id, None)

    def _read_again(self, user_id: str) -> None:
        self.drop(user_id)
        self._want(user_id)

    def _leave(self, user_id: str) -> None:
        """Do not read the user for a while."""
        now = monotonic()
        self._left = {user: until for user, until in self._left.items() if until > now}
        self._left[user_id] = now + _LEFT_SECONDS


async def _ask_alone(connection: Pooled, user_id: str, snapshot: str) -> asyncpg.Record:
    """As `Checking.ask`, by the transaction's snapshot."""
    (row,) = await changed(connection, [(user_id, snapshot)])
    return row


def _at_once(connection: Pooled) -> Transaction:
    """All statements in it have the snapshot of the first."""
    return connection.transaction(isolation="repeatable_read", readonly=True)
