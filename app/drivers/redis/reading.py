"""Records as they are read: each is the user's who asked, or nobody sees it."""

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

from app.core.memory.cursor import Cursor
from app.core.memory.records import Memory, Record, UserCount
from app.core.memory.requests import Users
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

    async def newest(
        self,
        user_id: str,
        conversation_id: str | None,
        start: Cursor | None,
        limit: int,
        has: Callable[[Memory], bool],
    ) -> list[Memory]:
        """The first `limit` that it `has`, newest first, those after a place."""
        found: list[Memory] = []
        owner, names = hashed(user_id), self._database.names
        key = names.of("l", owner)
        if conversation_id is not None:
            key = names.of("g", owner, hashed(conversation_id))
        first = b"+" if start is None else b"(" + place(*start)
        count = limit
        while len(found) < limit:
            members, values = await self._database.run(LIST, key, owner, first, count, "newest")
            found += [each for each in await own(values, user_id) if each and has(each)]
            if len(members) < count:
                break
            first, count = b"(" + members[-1], min(_MOST, 4 * count)
        return found[:limit]

    async def users(self, wanted: Users, now: datetime) -> list[UserCount]:
        """One more than the page has of the users who have a memory that has not expired."""
        names, found = self._database.names, list[UserCount]()
        first = b"[" + wanted.start.encode() if wanted.start else b"-"
        last = b"+" if wanted.end is None else b"(" + wanted.end.encode()
        count = wanted.limit + 1
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

    async def all(self) -> AsyncIterator[Record]:
        """Every record: owner by owner, oldest first."""
        names = self._database.names
        first = b"-"
        while True:
            [users] = await self._database.ask(
                ("ZRANGE", names.of("users"), first, "+", "BYLEX", "LIMIT", 0, _MOST)
            )
            for user in users:
                async for record in self._of(hashed(user.decode("utf-8", "surrogatepass"))):
                    yield record
            if len(users) < _MOST:
                break
            first = b"(" + users[-1]
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
