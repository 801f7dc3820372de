"""Forgetting users: every memory by the list of their ids, which no query may miss."""

from collections.abc import Callable
from datetime import datetime

from app.core.memory.moments import to_microseconds
from app.core.memory.records import Memory, is_alive
from app.core.memory.requests import Forget
from app.drivers.pinecone.layout import Row, hashed
from app.drivers.pinecone.owners import Owners
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.writing import Writing


class Forgetter:
    """Deletes a user's memories, a page at a time."""

    def __init__(
        self, reading: Reading, writing: Writing, owners: Owners, now: Callable[[], datetime]
    ) -> None:
        self._reading = reading
        self._writing = writing
        self._owners = owners
        self._now = now

    async def forget(self, wanted: Forget) -> int:
        """Delete all that `wanted` reaches; how many were there."""
        owner, began, count = hashed(wanted.user_id), self._now(), 0

        def reaches(row: Row) -> bool:
            return isinstance(row.looked_at, Memory) and wanted.reaches(row.looked_at)

        async for ids in self._reading.ids(owner):
            rows = await self._writing.delete(owner, ids, reaches)
            seen = await self._writing.seen(rows)
            count += sum(is_alive(row.looked_at, began) for row in seen)
            wanted.on_piece()
        if wanted.before is None:
            await self._clean(owner, to_microseconds(began))
            self._owners.forget(owner)
        return count

    async def _clean(self, owner: str, began: int) -> None:
        """Delete what failed calls left of records of before, and what is known of documents."""
        index = self._reading.index
        namespace = index.names.of(owner)
        async for ids in index.ids(namespace, ""):
            left = [one for one in ids if one[0] == "g" or _is_left(one, began)]
            if left:
                await index.delete(namespace, left)


def _is_left(one: str, began: int) -> bool:
    """Whether it is a window or a part of a version of before."""
    return one[0] in "wp" and int(one.split(".")[1], 16) < began
