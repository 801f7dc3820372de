"""Deletes records that have expired: from that moment on nobody finds them, and they take room."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from app.background import Background
from app.core.memory.records import Key, deletable_from, key_of
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.lookup import tagged
from app.drivers.automem.mapping import Row, Tags
from app.drivers.automem.versions import latest, outdated
from app.drivers.automem.writing import Writer
from app.turns import Turns

_EVERY_SECONDS = 300.0


class Sweeper(Background):
    """Looks every five minutes for what has expired before this hour, and deletes one by one.

    Tags tell which hour it is, so that only what has expired is read: one call where there is none.
    """

    failed = "expired_not_deleted"
    every = 0.0

    def __init__(
        self,
        client: AutomemClient,
        tags: Tags,
        writer: Writer,
        turns: Turns,
        now: Callable[[], datetime],
        swept: Callable[[int], None],
    ) -> None:
        """`now` is the driver's clock; `swept` is told how many records each page had."""
        self._client = client
        self._tags = tags
        self._writer = writer
        self._turns = turns
        self._now = now
        self._swept = swept

    async def work(self) -> None:
        await asyncio.sleep(_EVERY_SECONDS)
        await self.sweep()

    async def sweep(self) -> int:
        """Delete what `records.deletable_from` names before this hour; how many records that were.

        Of several services that do so at once, one counts each record. What was never updated is
        not looked for elsewhere: an older version that was left behind is counted as a record.
        """
        tags = self._tags.ended(self._now())
        total, offset, more = 0, 0, True
        while more and tags:
            rows, count, more = await tagged(self._client.get, tags, offset)
            versions: dict[Key, list[Row]] = defaultdict(list)
            for row in rows:
                versions[key_of(row.record)].append(row)
            swept = [await self._delete(some) for some in versions.values()]
            found = sum(counted for counted, _ in swept)
            self._swept(found)
            total += found
            gone = {row.automem_id for _, deleted in swept for row in deleted}
            # What is deleted moves the rest up.
            offset += count - sum(row.automem_id in gone for row in rows)
        return total

    async def _delete(self, rows: Sequence[Row]) -> tuple[bool, list[Row]]:
        """Delete the record of the rows, if it has no version that is to stay.

        Whether this call did, and all rows that it deleted.
        """
        key = key_of(rows[0].record)
        async with self._turns.of(rows[0].record_id):
            if any(row.record.updated_at != row.record.created_at for row in rows):
                found = await self._writer.find([rows[0].record_id])
                rows = [row for row in found if key_of(row.record) == key]
            last = latest(rows)
            over = None if last is None else deletable_from(last.record)
            if last is None or over is None or over > self._now():
                return False, await self._writer.delete(outdated(rows))
            deleted = await self._writer.delete(rows)
        return any(row.automem_id == last.automem_id for row in deleted), deleted
