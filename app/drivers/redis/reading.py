"""Records as they are read: each is the user's who asked, or nobody sees it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from app.core.memory.cursor import Place
from app.core.memory.records import Kept, Knowledge, Memory, Record, UserCount
from app.core.memory.requests import Export, Page, PageKnowledge, Recall, Users
from app.drivers.redis.database import Database
from app.drivers.redis.layout import KNOWLEDGE, after, decoded, hashed, place
from app.drivers.redis.scripts import LIST
from app.drivers.redis.server import Command
from app.logs import get_logger
from app.pieces import in_pieces

_MOST = 1_000
"""Records that are read at once."""

_log = get_logger(__name__)


async def own(values: Sequence[bytes | None], user_id: str) -> list[Memory | None]:
    """The memories of the values, None where there is none.

    A record of another user, whose id would have to have the same hash, is reported instead.
    """

    def read(value: bytes | None) -> Memory | None:
        record = None if value is None else decoded(value)
        if record is None:
            return None
        if not isinstance(record, Memory) or record.user_id != user_id:
            _log.error("another_users_record", reason="it is kept under the user's hash")
            return None
        return record

    return await in_pieces(read, values)


class Lists:
    """Lists of records, which sorted sets keep in order; read in pieces."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def memories(
        self, wanted: Recall | Page, limit: int, has: Callable[[Memory], bool]
    ) -> list[Memory]:
        """The first `limit` of a user's list that it `has`."""
        owner, doc = hashed(wanted.user_id), wanted.doc_id if isinstance(wanted, Page) else None
        parts = self._list(owner, wanted.conversation_id, doc)
        start = wanted.after if isinstance(wanted, Page) else None

        async def read(values: Sequence[bytes | None]) -> list[Memory]:
            found = await own(values, wanted.user_id)
            return [memory for memory in found if memory is not None and has(memory)]

        return await self._first(parts, owner, start, limit, read)

    async def knowledge(
        self, wanted: PageKnowledge, limit: int, has: Callable[[Knowledge], bool]
    ) -> list[Knowledge]:
        """The first `limit` of a list of knowledge that it `has`."""
        parts = self._list(KNOWLEDGE, wanted.category, wanted.doc_id)

        async def read(values: Sequence[bytes | None]) -> list[Knowledge]:
            found = await in_pieces(decoded, (each for each in values if each is not None))
            return [each for each in found if isinstance(each, Knowledge) and has(each)]

        return await self._first(parts, KNOWLEDGE, wanted.after, limit, read)

    def _list(self, owner: str, group: str | None, doc: str | None) -> tuple[str, bool]:
        """The shortest list that all of them are in, and whether the newest come first."""
        names = self._database.names
        if doc is not None:
            return names.of("d", owner, hashed(doc)), False
        return names.of("l", owner) if group is None else names.of("g", owner, hashed(group)), True

    async def _first(
        self,
        part: tuple[str, bool],
        owner: str,
        start: Place | None,
        limit: int,
        read: Callable[[Sequence[bytes | None]], Awaitable[list[Kept]]],
    ) -> list[Kept]:
        """The first `limit` after the start that `read` gives back, piece by piece."""
        found: list[Kept] = []
        key, newest = part
        first = b"(" + place(start) if start is not None else b"+" if newest else b"-"
        count = limit
        while len(found) < limit:
            order = "newest" if newest else "oldest"
            members, values = await self._database.run(LIST, key, owner, first, count, order)
            found += await read(values)
            if len(members) < count:
                break
            first, count = b"(" + members[-1], min(_MOST, 4 * count)
        return found[:limit]

    async def users(self, wanted: Users, now: datetime) -> list[UserCount]:
        """One more than the page has of the users who have a memory that has not expired."""
        names, found = self._database.names, list[UserCount]()
        (first, last), count = _between(wanted), wanted.limit + 1
        while True:
            [users] = await self._database.ask(
                ("ZRANGE", names.of("users"), first, last, "BYLEX", "LIMIT", 0, count)
            )
            found += await self._counted([user.decode() for user in users], now)
            if len(users) < count or len(found) > wanted.limit:
                return found
            first = b"(" + users[-1]

    async def _counted(self, users: Sequence[str], now: datetime) -> list[UserCount]:
        """Those of the users who have memories, with how many."""
        names, commands = self._database.names, list[Command]()
        for owner in map(hashed, users):
            commands.append(("ZCARD", names.of("l", owner)))
            commands.append(("ZLEXCOUNT", names.of("x", owner), "-", f"({after(now)}"))
        answers = await self._database.ask(*commands)
        counts = (some - expired for some, expired in zip(answers[::2], answers[1::2], strict=True))
        pairs = zip(users, counts, strict=True)
        return [UserCount(user, count) for user, count in pairs if count]

    async def all(self, wanted: Export) -> AsyncIterator[Record]:
        """The records of an export: owner by owner, oldest first."""
        names = self._database.names
        first, last = _between(wanted)
        while True:
            [users] = await self._database.ask(
                ("ZRANGE", names.of("users"), first, last, "BYLEX", "LIMIT", 0, _MOST)
            )
            for user in users:
                async for record in self._of(hashed(user.decode("utf-8", "surrogatepass"))):
                    yield record
            if len(users) < _MOST:
                break
            first = b"(" + users[-1]
        if wanted.knowledge:
            async for record in self._of(KNOWLEDGE):
                yield record

    async def _of(self, owner: str) -> AsyncIterator[Record]:
        key, first = self._database.names.of("l", owner), b"-"
        while True:
            members, values = await self._database.run(LIST, key, owner, first, _MOST, "oldest")
            for record in await in_pieces(decoded, (each for each in values if each is not None)):
                yield record
            if len(members) < _MOST:
                return
            first = b"(" + members[-1]


def _between(wanted: Users | Export) -> tuple[bytes, bytes]:
    """The two ends of a range of user ids, as Redis takes them."""
    first = b"[" + wanted.start.encode() if wanted.start else b"-"
    return first, b"+" if wanted.end is None else b"(" + wanted.end.encode()
