"""Lists of records, which sorted sets keep in order."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime

from app.core.memory.cursor import Place
from app.core.memory.records import Kept, Knowledge, Memory, Record, UserCount
from app.core.memory.requests import Export, Page, PageKnowledge, Recall, Users
from app.drivers.redis.current import Current, Generation
from app.drivers.redis.layout import KNOWLEDGE, after, decoded, hashed, place
from app.drivers.redis.reading import own
from app.drivers.redis.scripts import LIST
from app.drivers.redis.server import Command
from app.pieces import in_pieces

_MOST = 1_000
"""Records that are read at once."""


class Lists:
    """Reads them in pieces, each from the generation in use: every one has the same lists."""

    def __init__(self, current: Current) -> None:
        self._current = current

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
        if doc is not None:
            return f"d:{owner}:{hashed(doc)}", False
        return f"l:{owner}" if group is None else f"g:{owner}:{hashed(group)}", True

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
            members, values = await self._piece(key, owner, first, count, order)
            found += await read(values)
            if len(members) < count:
                break
            first, count = b"(" + members[-1], min(_MOST, 4 * count)
        return found[:limit]

    async def users(self, wanted: Users, now: datetime) -> list[UserCount]:
        """One more than the page has of the users who have a memory that has not expired."""
        found = list[UserCount]()
        (first, last), count = _between(wanted), wanted.limit + 1
        while True:
            users = await self.users_between(first, last, count)
            found += await self._counted([user.decode() for user in users], now)
            if len(users) < count or len(found) > wanted.limit:
                return found
            first = b"(" + users[-1]

    async def _counted(self, users: Sequence[str], now: datetime) -> list[UserCount]:
        """Those of the users who have memories, with how many."""

        async def ask(there: Generation) -> list[int]:
            names, commands = there.database.names, list[Command]()
            for owner in map(hashed, users):
                commands.append(("ZCARD", names.of("l", owner)))
                commands.append(("ZLEXCOUNT", names.of("x", owner), "-", f"({after(now)}"))
            return await there.database.ask(*commands)

        answers = await self._current.do(ask)
        counts = (some - expired for some, expired in zip(answers[::2], answers[1::2], strict=True))
        pairs = zip(users, counts, strict=True)
        return [UserCount(user, count) for user, count in pairs if count]

    async def all(self, wanted: Export) -> AsyncIterator[Record]:
        """The records of an export: owner by owner, oldest first."""
        first, last = _between(wanted)
        while True:
            users = await self.users_between(first, last, _MOST)
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
        first = b"-"
        while True:
            members, values = await self._piece(f"l:{owner}", owner, first, _MOST, "oldest")
            for record in await in_pieces(decoded, (each for each in values if each is not None)):
                yield record
            if len(members) < _MOST:
                return
            first = b"(" + members[-1]

    async def users_between(self, first: bytes, last: bytes, count: int) -> list[bytes]:
        """The first user ids between two bounds, as Redis takes them."""

        async def ask(there: Generation) -> list[bytes]:
            users = there.database.names.of("users")
            command = ("ZRANGE", users, first, last, "BYLEX", "LIMIT", 0, count)
            [found] = await there.database.ask(command)
            return list(found)

        return await self._current.do(ask)

    async def _piece(
        self, part: str, owner: str, first: bytes, count: int, order: str
    ) -> tuple[list[bytes], list[bytes | None]]:
        """Members of a list from there on, and the records that they are of."""

        async def ask(there: Generation) -> tuple[list[bytes], list[bytes | None]]:
            members, values = await there.database.run(LIST, part, owner, first, count, order)
            return members, values

        return await self._current.do(ask)


def _between(wanted: Users | Export) -> tuple[bytes, bytes]:
    """The two ends of a range of user ids, as Redis takes them."""
    first = b"[" + wanted.start.encode() if wanted.start else b"-"
    return first, b"+" if wanted.end is None else b"(" + wanted.end.encode()
