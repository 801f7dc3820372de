"""Putting documents: all of one put's records become visible at once, and the others go."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from app.core.memory.clock import Clock
from app.core.memory.cursor import LAST
from app.core.memory.records import Kept
from app.core.memory.requests import Put
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import at_most, before, equal, every
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.layout import (
    KNOWLEDGE,
    NEVER,
    digits,
    hashed,
    id_of,
    milliseconds,
    object_id,
    put_mark,
)
from app.drivers.weaviate.puts import MADE, MAKING, NOTHING, OF_PUTS, Head, Puts, is_shown
from app.drivers.weaviate.reading import Lists
from app.drivers.weaviate.writing import Writing
from app.embedding import Vector
from app.errors import MemoryServiceError, raise_uncertain

_MILLISECOND = timedelta(milliseconds=1)
_HOUR = timedelta(hours=1)
_KNOWN: Final = ("key", "made", "expires", "windows", "version")


class Documents:
    """Replaces documents; `puts.py` tells how readers see it."""

    def __init__(
        self,
        database: Database,
        lists: Lists,
        puts: Puts,
        writing: Writing,
        clock: Callable[[], Clock],
    ) -> None:
        self._database = database
        self._lists = lists
        self._puts = puts
        self._writing = writing
        self._clock = clock

    async def put(self, wanted: Put[Kept], now: datetime) -> int:
        """Keep the records in the place of the document's others; how many of those were there."""
        owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
        doc = hashed(wanted.doc_id)
        vectors = await self._writing.embedded(wanted.records)
        async with self._writing.turn(owner):
            own = wanted.created_at or (
                wanted.records[0].created_at
                if wanted.records
                else self._clock().end_of_now() + _MILLISECOND
            )
            moment, end = digits(own), digits(own - _MILLISECOND)
            rows = await self._rows(owner, doc)
            head = (await self._puts.heads(owner, [doc])).get(doc, NOTHING)
            others = [row for row in rows if row.texts["made"] <= end]
            if head.put > moment:
                pass  # a later put is there
            elif not wanted.records and rows:
                gone = milliseconds(now + _HOUR)
                tombstone = put_mark(self._database.names, owner, doc, moment, end, MADE, gone)
                await self._writing.keep_each([tombstone])
            elif wanted.records and not any(_is_of_later(row, moment) for row in rows):
                await self._keep(wanted, vectors, owner, doc, moment, end)
            try:
                await self._delete(owner, others)
                await self._delete_marks(owner, doc, moment)
            except MemoryServiceError as error:
                raise_uncertain(error)
        heads = {doc: head}
        alive = milliseconds(now)
        return sum(row.numbers["expires"] > alive and is_shown(row, heads) for row in others)

    async def _keep(
        self,
        wanted: Put[Kept],
        vectors: Sequence[Vector],
        owner: str,
        doc: str,
        moment: str,
        end: str,
    ) -> None:
        names = self._database.names
        there = await self._writing.there(wanted.records)
        new = [
            (record, own, moment)
            for record, own in zip(wanted.records, vectors, strict=True)
            if (old := there.get(id_of(record))) is None
            or old.texts["version"] < digits(record.updated_at)
        ]
        until = milliseconds(self._clock().now() + _HOUR)
        making = put_mark(names, owner, doc, moment, end, MAKING, until)
        made = put_mark(names, owner, doc, moment, end, MADE, NEVER)
        await self._writing.keep_each([making])
        await self._writing.keep_whole(await self._writing.things(new))
        await self._writing.keep_each([made])
        heads = await self._puts.heads(owner, [doc])
        if heads.get(doc, NOTHING).put > moment:  # another process was quicker with a later put
            await self.drop(owner, doc, moment)

    async def drop(self, owner: str, doc: str, moment: str) -> None:
        """Delete what a put has kept that does not count."""
        of_put = every(equal("owner", owner), equal("doc", doc), equal("put", moment))
        await self._database.delete(self._database.names.of(owner), of_put)
        await self._database.delete(self._database.names.marks, of_put)

    async def clear(self, owner: str, doc: str, head: Head) -> None:
        """Delete what a delete of the document has hidden, and could not delete."""
        rows = [row for row in await self._rows(owner, doc) if row.texts["made"] <= head.before]
        await self._delete(owner, [row for row in rows if not is_shown(row, {doc: head})])

    async def tidy(self, now: datetime) -> None:
        """End the puts that nobody has ended within an hour, and forget deleted documents."""
        marks = self._database.names.marks
        names = ("kind", "owner", "doc", "put", "before")
        for row in await self._database.search(
            marks, at_most("gone", milliseconds(now)), names, 100
        ):
            kind, owner, doc, moment, end = (row.texts[name] for name in names)
            async with self._writing.turn(owner):
                if kind == MAKING:
                    await self.drop(owner, doc, moment)
                else:
                    await self.clear(owner, doc, Head(moment, end))
                    await self._delete_marks(owner, doc, moment)
                    await self._database.delete_ids(marks, [row.uuid])

    async def _rows(self, owner: str, doc: str) -> list[Row]:
        """All objects of records of the document, also those that nobody may see."""
        found: list[Row] = []
        names = (*_KNOWN, "position", *OF_PUTS)
        async for rows in self._lists.rows(owner, [equal("doc", doc)], names, hidden=True):
            found += rows
        return found

    async def _delete(self, owner: str, rows: list[Row]) -> None:
        ids = [
            object_id(owner, row.texts["key"], n)
            for row in rows
            for n in range(int(row.numbers.get("windows", 1)) if owner == KNOWLEDGE else 1)
        ]
        await self._database.delete_ids(self._database.names.of(owner), ids)

    async def _delete_marks(self, owner: str, doc: str, moment: str) -> None:
        """Delete the marks of earlier puts of the document."""
        earlier = every(
            equal("kind", MADE), equal("owner", owner), equal("doc", doc), before("put", moment)
        )
        await self._database.delete(self._database.names.marks, earlier)


def _is_of_later(row: Row, moment: str) -> bool:
    """Whether the object is of a put that was made later."""
    return row.numbers["position"] < LAST and row.texts["made"] > moment
