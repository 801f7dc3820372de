"""Deleting records, by their ids or all of a user's, and the list of the users who have some."""

import asyncio
from collections.abc import Callable
from datetime import datetime

from app.core.memory.records import UserCount
from app.core.memory.requests import Delete, Forget, Users
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import (
    MOST,
    Filter,
    above,
    any_of,
    at_most,
    before,
    equal,
    every,
    from_on,
)
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.layout import (
    KNOWLEDGE,
    digits,
    hashed,
    milliseconds,
    name_of,
    user_of,
)
from app.drivers.weaviate.puts import OF_PUTS, Puts, is_shown
from app.drivers.weaviate.reading import WHOLE, Lists, record_of
from app.drivers.weaviate.writing import Writing
from app.embedding.base import MOST_WINDOWS
from app.errors import MemoryServiceError
from app.logs import get_logger

_log = get_logger(__name__)

_PIECE = 500
_IDS_AT_ONCE = MOST // MOST_WINDOWS
"""As many objects as one search gives, if each record has as many as it may."""
_USER = "user"


class Deleting:
    """Deletes records, and the marks of users who have none left."""

    def __init__(
        self,
        database: Database,
        lists: Lists,
        puts: Puts,
        writing: Writing,
        now: Callable[[], datetime],
    ) -> None:
        self._database = database
        self._lists = lists
        self._puts = puts
        self._writing = writing
        self._now = now

    async def delete(self, wanted: Delete) -> int:
        """Delete the records of these ids; how many were there."""
        names = self._database.names
        collection = names.knowledge if wanted.kind == "knowledge" else names.memories
        count = 0
        for n in range(0, len(wanted.ids), _IDS_AT_ONCE):
            of_ids = any_of("key", wanted.ids[n : n + _IDS_AT_ONCE])
            owners = {KNOWLEDGE}
            if wanted.user_id is not None:
                owners = {hashed(wanted.user_id)}
            elif wanted.kind == "memory":
                there = await self._database.search(collection, of_ids, ("owner",), MOST)
                owners = {row.texts["owner"] for row in there}
            for owner in sorted(owners):
                count += await self._delete(collection, owner, of_ids)
        return count

    async def _delete(self, collection: str, owner: str, of_ids: Filter) -> int:
        async with self._writing.turn(owner):
            now = milliseconds(self._now())
            names = ("key", "window", "expires", *OF_PUTS)
            own = every(equal("owner", owner), of_ids)
            rows = await self._database.search(collection, own, names, MOST)
            if not rows:
                return 0
            docs = {row.texts["doc"] for row in rows if "doc" in row.texts}
            heads = await self._puts.heads(owner, docs) if docs else {}
            await self._database.delete_ids(collection, [row.uuid for row in rows])
            if owner != KNOWLEDGE:
                await self.unmark(owner)
            return sum(
                row.numbers["window"] == 0 and row.numbers["expires"] > now and is_shown(row, heads)
                for row in rows
            )

    async def forget(self, wanted: Forget) -> int:
        """Delete what the user has, as far as it was created at the moment or before."""
        owner = hashed(wanted.user_id)
        of_time = []
        end = None if wanted.before is None else digits(wanted.before)
        if wanted.before is not None:
            of_time.append(at_most("created", milliseconds(wanted.before)))
        count = 0
        async with self._writing.turn(owner):
            now = milliseconds(self._now())
            pieces = self._lists.rows(owner, of_time, ("made", "expires"), size=_PIECE, hidden=True)
            async for rows in pieces:
                due = [row for row in rows if end is None or row.texts["made"] <= end]
                ids = [row.uuid for row in due]
                await self._database.delete_ids(self._database.names.memories, ids)
                count += sum(row.numbers["expires"] > now for row in due)
                wanted.on_piece()
            await self.unmark(owner)
        return count

    async def unmark(self, owner: str) -> None:
        """Forget the name of a user who has no memory left.

        Who stores one meanwhile writes the mark, with a later moment; where it came between, it is
        written again. A failure is not the caller's: the memories are deleted, and the name goes
        when the users are listed.
        """
        names, seen = self._database.names, milliseconds(self._now())
        mark = every(equal("kind", _USER), equal("owner", owner), at_most("seen", seen))
        own = equal("owner", owner)
        try:
            if await self._database.count(names.memories, own):
                return
            if await self._database.delete(names.marks, mark):
                for row in await self._database.search(names.memories, own, ("record",), 1):
                    await self._writing.mark(record_of(row))
        except MemoryServiceError as error:
            _log.warning("user_mark_left", reason=error.reason)

    async def sweep(self, now: datetime) -> int:
        """Delete all that is to be deleted by now; how many records that were."""
        names, due = self._database.names, at_most("gone", milliseconds(now))
        total = 0
        while rows := await self._database.search(names.memories, due, ("owner",), _PIECE):
            await self._database.delete_ids(names.memories, [row.uuid for row in rows])
            for owner in {row.texts["owner"] for row in rows}:
                await self.unmark(owner)
            total += len(rows)
        total += await self._database.delete(names.knowledge, every(due, WHOLE))
        await self._database.delete(names.knowledge, due)  # the other windows
        return total

    async def users(self, wanted: Users) -> list[UserCount]:
        """One more than the page has of the users who have a memory that has not expired."""
        names = self._database.names
        found: list[UserCount] = []
        start, count = name_of(wanted.start), wanted.limit + 1
        while True:
            filters = [equal("kind", _USER)]
            if start:
                filters.append(from_on("name", start))
            if wanted.end is not None:
                filters.append(before("name", name_of(wanted.end)))
            rows = await self._database.search(
                names.marks, every(*filters), ("name", "owner"), count, sort=("name", True)
            )
            found += await self._counted(rows)
            if len(rows) < count or len(found) > wanted.limit:
                return found
            start = rows[-1].texts["name"] + "00"  # the least that sorts after it

    async def _counted(self, rows: list[Row]) -> list[UserCount]:
        """Those of the users who have memories, with how many."""
        now = milliseconds(self._now())
        counts = await asyncio.gather(
            *(
                self._database.count(
                    self._database.names.memories,
                    every(equal("owner", row.texts["owner"]), above("expires", now)),
                )
                for row in rows
            )
        )
        for row, alive in zip(rows, counts, strict=True):
            if not alive:  # all have expired, and may be deleted
                await self.unmark(row.texts["owner"])
        users = [user_of(row.texts["name"]) for row in rows]
        return [UserCount(user, n) for user, n in zip(users, counts, strict=True) if n]
