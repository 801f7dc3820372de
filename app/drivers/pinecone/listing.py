"""Lists of records: newest first by spans of time, or a document's in its order."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final, TypeVar

from app.core.memory.cursor import Cursor
from app.core.memory.moments import to_microseconds
from app.core.memory.records import Knowledge, Memory, newest
from app.core.memory.requests import Page, PageKnowledge, Recall
from app.drivers.pinecone.layout import KNOWLEDGE, Row, hashed
from app.drivers.pinecone.reading import Reading, latest_of
from app.drivers.pinecone.scope import Scope, Wanted

_MARGIN: Final = 20
"""Records that the first span has beside those that are asked for."""

Kind = TypeVar("Kind", Memory, Knowledge)


class Lists:
    """Reads lists, of which each part is laid over with what was written lately."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def memories(self, wanted: Recall | Page, limit: int) -> list[Memory]:
        """The first `limit` of a user's list."""
        now = self._reading.now()

        def has(row: Row) -> bool:
            record = row.looked_at
            return (
                isinstance(record, Memory)
                and record.user_id == wanted.user_id
                and wanted.has(record, now)
                and _follows(record, wanted)
            )

        rows = await self._first(hashed(wanted.user_id), wanted, has, limit, now)
        return [record for row in rows if isinstance(record := row.record, Memory)]

    async def knowledge(self, wanted: PageKnowledge, limit: int) -> list[Knowledge]:
        """The first `limit` of a list of knowledge."""
        now = self._reading.now()

        def has(row: Row) -> bool:
            record = row.looked_at
            return (
                isinstance(record, Knowledge)
                and wanted.has(record, now)
                and _follows(record, wanted)
            )

        rows = await self._first(KNOWLEDGE, wanted, has, limit, now)
        return [record for row in rows if isinstance(record := row.record, Knowledge)]

    async def _first(
        self,
        owner: str,
        wanted: Recall | Page | PageKnowledge,
        has: Callable[[Row], bool],
        limit: int,
        now: datetime,
    ) -> list[Row]:
        """The first rows that it `has`, in the list's order."""
        scope = Scope.of(wanted, now)
        if not isinstance(wanted, Recall) and wanted.doc_id is not None:
            place = wanted.place

            async def document() -> list[Row]:
                return [row for row in await self._reading.everything(scope) if has(row)]

            rows = await self._reading.seen(owner, document)
            return sorted(rows, key=lambda row: place(row.looked_at))[:limit]
        after = None if isinstance(wanted, Recall) else wanted.after
        if isinstance(after, Cursor):
            scope = replace(scope, until=to_microseconds(after.occurred_at) // 1_000)

        async def some() -> list[Row]:
            return await self._newest(owner, scope, has, limit)

        return (await self._reading.seen(owner, some))[:limit]

    async def _newest(
        self, owner: str, scope: Scope, has: Callable[[Row], bool], limit: int
    ) -> list[Row]:
        """The newest that it `has`, `limit` or more of which are seen, unless there are fewer."""
        namespace = self._reading.index.names.of(owner)
        found: list[Row] = []
        async for rows in self._reading.windows(scope, limit + _MARGIN):
            found = latest_of([*found, *rows])
            own = [row for row in found if has(row)]
            if len(own) >= limit:
                seen, _ = await self._reading.puts.seen(namespace, own, 0)
                if len(seen) >= limit:
                    break
        own = [row for row in found if has(row)]
        return sorted(own, key=lambda row: newest(row.looked_at), reverse=True)


def _follows(record: Memory | Knowledge, wanted: Wanted) -> bool:
    """Whether the record is listed after the page before."""
    if isinstance(wanted, (Page, PageKnowledge)):
        return wanted.comes_after(record, wanted.after)
    return True
