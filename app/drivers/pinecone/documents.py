"""Puts of documents: their records first, then what makes them seen; then the others go."""

from datetime import datetime, timedelta
from uuid import UUID

from app.core.memory.clock import Clock
from app.core.memory.moments import to_microseconds
from app.core.memory.records import Kept, is_alive, record_id
from app.core.memory.requests import Put
from app.drivers.pinecone.layout import KNOWLEDGE, hashed
from app.drivers.pinecone.puts import Made, is_seen
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.scope import Scope
from app.drivers.pinecone.storing import Storing, key_of
from app.drivers.pinecone.writing import Writing, moment_of
from app.turns import Turns

_MILLISECOND = timedelta(milliseconds=1)


class Documents:
    """Replaces documents; this process puts one document once at a time."""

    def __init__(self, reading: Reading, storing: Storing, writing: Writing, turns: Turns) -> None:
        self._reading = reading
        self._storing = storing
        self._writing = writing
        self._turns = turns

    async def put(self, wanted: Put[Kept], clock: Clock, now: datetime) -> int:
        """Make the put; how many other records it deleted that were seen and had not expired."""
        owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
        rows = await self._writing.rows(wanted.records, moment_of(clock), staged=True)
        until = _until(wanted, clock)
        namespace = self._reading.index.names.of(owner)
        async with self._turns.of(f"{owner}.{wanted.doc_id}"):
            last = (await self._reading.puts.last(namespace, [wanted.doc_id])).get(wanted.doc_id)
            own = {key_of(row) for row in rows}
            there = [
                row
                for row in await self._reading.everything(Scope(owner=owner, doc=wanted.doc_id))
                if key_of(row) not in own
                and row.looked_at.created_at <= until
                and wanted.replaces(row.looked_at)
            ]
            count = sum(is_seen(row, last) and is_alive(row.looked_at, now) for row in there)
            if last is None or last.until < to_microseconds(until):
                created = None
                if rows:
                    created = wanted.records[0].created_at
                    await self._storing.keep(rows, {}, undo=True)
                # Whoever began to read before this moment, reads again.
                made = Made.of(until, created, moment_of(clock))
                await self._reading.puts.keep(namespace, wanted.doc_id, made)
            if there:
                ids = [UUID(record_id(row.looked_at)) for row in there]
                await self._writing.delete(owner, ids, lambda row: wanted.replaces(row.looked_at))
        return count


def _until(wanted: Put[Kept], clock: Clock) -> datetime:
    """What was created then or earlier gives way."""
    if wanted.before is not None:
        return wanted.before
    if wanted.records:
        return wanted.records[0].created_at - _MILLISECOND
    return clock.end_of_now()
