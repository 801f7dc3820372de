"""Deletes records that have expired: from that moment on nobody finds them, and they take room."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from app.background import Background
from app.core.memory.moments import to_microseconds
from app.core.memory.records import deletable_from
from app.drivers.pinecone.layout import Row, due_in, is_due
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.writing import Writing


class Sweeper(Background):
    """Looks twice a minute, in one call where nothing has expired: entries are listed by time."""

    failed = "expired_not_deleted"
    every = 30.0

    def __init__(
        self,
        reading: Reading,
        writing: Writing,
        now: Callable[[], datetime],
        swept: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`now` is the driver's clock; `swept` is told how many records each step deleted."""
        self._reading = reading
        self._writing = writing
        self._now = now
        self._swept = swept

    async def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were.

        Of several services that do so at once, more than one may count a record.
        """
        index, now, total = self._reading.index, self._now(), 0
        async for ids in index.ids(index.names.expiring, "x"):
            due = [one for one in ids if is_due(one, to_microseconds(now) // 1_000)]
            count = await self._delete(due, now)
            self._swept(count)
            total += count
            if due:
                await index.delete(index.names.expiring, due)
            if len(due) < len(ids):
                break
        return total

    async def work(self) -> None:
        await self.sweep()

    async def _delete(self, due: list[str], now: datetime) -> int:
        by_owner: dict[str, list[UUID]] = defaultdict(list)
        for each in due:
            one, owner = due_in(each)
            by_owner[owner].append(one)
        count = 0
        for owner, ids in by_owner.items():
            count += len(await self._writing.delete(owner, ids, lambda row: _is_over(row, now)))
        return count


def _is_over(row: Row, now: datetime) -> bool:
    over = deletable_from(row.looked_at)
    return over is not None and over <= now
