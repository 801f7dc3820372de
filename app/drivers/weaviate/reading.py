"""Lists of an owner's records in their order, and records as they are read: each is its owner's."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Final, NamedTuple

from app.core.memory.cursor import Place
from app.core.memory.filter import EVERYTHING
from app.core.memory.filter import Filter as RecordFilter
from app.core.memory.records import Kept, Knowledge, Memory, Record
from app.core.memory.requests import Page, PageKnowledge, Recall
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import (
    MOST,
    Filter,
    above,
    after,
    at_least,
    at_most,
    before,
    equal,
    every,
    number_is,
)
from app.drivers.weaviate.database import Database
from app.drivers.weaviate.layout import KNOWLEDGE, decoded, hashed, milliseconds, place_of
from app.drivers.weaviate.puts import OF_PUTS, Puts
from app.errors import DriverError
from app.logs import get_logger
from app.pieces import in_pieces

_log = get_logger(__name__)

_MANY: Final = 500
"""So many objects that stand at one number are read again; where there are more, texts count."""
_SPARE: Final = 5
"""More objects than a page has that are read: those where it begins come again."""

WHOLE: Final = number_is("window", 0.0)
"""Only the objects that have the record itself."""


class Order(NamedTuple):
    """What a list is sorted by: a text, and the number that it begins with, which has an index."""

    text: str
    number: str
    ascending: bool

    def is_after(self, row: Row, start: tuple[float, str] | None) -> bool:
        """Whether the object stands after the start; all do after None."""
        if start is None:
            return True
        own = row.texts[self.text]
        return own > start[1] if self.ascending else own < start[1]

    def following(self, start: tuple[float, str], *, by_text: bool) -> list[Filter]:
        """What lets nothing through that stands before the start, but for what is at its number."""
        found = [(at_least if self.ascending else at_most)(self.number, start[0])]
        if by_text:
            found.append((after if self.ascending else before)(self.text, start[1]))
        return found


NEWEST: Final = Order("place", "at", ascending=False)
OF_DOCUMENT: Final = Order("spot", "position", ascending=True)


def record_of(row: Row) -> Record:
    """The record of an object. Raises `DriverError` where it has none that can be read."""
    try:
        return decoded(row.texts["record"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DriverError(reason="an object has no record that can be read") from error


async def memories_of(rows: Iterable[Row], user_id: str) -> list[Memory]:
    """The memories of the objects.

    A record of another user, which only somebody else can have put there, is reported instead.
    """
    found: list[Memory] = []
    for record in await in_pieces(record_of, rows):
        if isinstance(record, Memory) and record.user_id == user_id:
            found.append(record)
        else:
            _log.error("another_users_record", reason="it is kept under the user's hash")
    return found


class Lists:
    """Lists of an owner's records, read in pieces."""

    def __init__(self, database: Database, puts: Puts) -> None:
        self._database = database
        self._puts = puts

    async def unordered(
        self, owner: str, filters: Sequence[Filter], properties: Sequence[str]
    ) -> list[Row]:
        """The objects of the owner's records that are shown, in no order.

        Where a search gives all of them, Weaviate need not sort.
        """
        wanted = every(equal("owner", owner), WHOLE, *filters)
        names, collection = (*properties, *OF_PUTS), self._database.names.of(owner)
        rows, shown = await self._puts.read(
            owner, lambda: self._database.search(collection, wanted, names, MOST)
        )
        if len(rows) < MOST:
            return [row for row in rows if shown(row)]
        found: list[Row] = []
        async for some in self.rows(owner, filters, properties):
            found += some
        return found

    async def rows(
        self,
        owner: str,
        filters: Sequence[Filter],
        properties: Sequence[str],
        *,
        order: Order = NEWEST,
        start: tuple[float, str] | None = None,
        size: int | None = None,
        hidden: bool = False,
    ) -> AsyncIterator[list[Row]]:
        """The objects of the owner's records, in order, after the start.

        `size` is how many are read at first, if not as many as one search gives; later more are.
        Those that no reader may see, as a put has replaced them or is being made, only come where
        they are asked for.
        """
        names = (*properties, order.text, order.number, *OF_PUTS)
        wanted = [equal("owner", owner), WHOLE, *filters]
        by_text, size = False, min(size or MOST, MOST)
        while True:
            own = wanted if start is None else wanted + order.following(start, by_text=by_text)
            read = self._reader(owner, own, names, size, order)
            if hidden:
                rows = await read()
                yield [row for row in rows if order.is_after(row, start)]
            else:
                rows, shown = await self._puts.read(owner, read)
                yield [row for row in rows if order.is_after(row, start) and shown(row)]
            if len(rows) < size:
                return
            last = rows[-1].numbers[order.number], rows[-1].texts[order.text]
            if order.is_after(rows[-1], start):
                start = last
                by_text = sum(row.numbers[order.number] == last[0] for row in rows) > _MANY
            else:
                by_text = True
            size = min(MOST, max(2 * size, 4 * _MANY))

    def _reader(
        self, owner: str, filters: Sequence[Filter], names: Sequence[str], size: int, order: Order
    ) -> Callable[[], Awaitable[list[Row]]]:
        sort = order.text, order.ascending
        collection = self._database.names.of(owner)
        return lambda: self._database.search(collection, every(*filters), names, size, sort=sort)

    async def memories(
        self, wanted: Recall | Page, limit: int, now: float, has: Callable[[Memory], bool]
    ) -> list[Memory]:
        """The first `limit` of a user's list that it `has`; `now` in milliseconds."""

        async def read(rows: list[Row]) -> list[Memory]:
            return [memory for memory in await memories_of(rows, wanted.user_id) if has(memory)]

        of_group = wanted.conversation_id
        doc, start = None, None
        if isinstance(wanted, Page):
            doc, start = wanted.doc_id, wanted.after
        of = of_group, doc, start, wanted.filter
        return await self._first(hashed(wanted.user_id), *of, limit, now, read)

    async def knowledge(
        self, wanted: PageKnowledge, limit: int, now: float, has: Callable[[Knowledge], bool]
    ) -> list[Knowledge]:
        """The first `limit` of a list of knowledge that it `has`."""

        async def read(rows: list[Row]) -> list[Knowledge]:
            records = await in_pieces(record_of, rows)
            return [one for one in records if isinstance(one, Knowledge) and has(one)]

        of = wanted.category, wanted.doc_id, wanted.after, wanted.filter
        return await self._first(KNOWLEDGE, *of, limit, now, read)

    async def _first(
        self,
        owner: str,
        group: str | None,
        doc: str | None,
        start: Place | None,
        admitted: RecordFilter,
        limit: int,
        now: float,
        read: Callable[[list[Row]], Awaitable[list[Kept]]],
    ) -> list[Kept]:
        found: list[Kept] = []
        pieces = self.rows(
            owner,
            scope(group, doc, now, admitted),
            ("record",),
            order=NEWEST if doc is None else OF_DOCUMENT,
            start=None if start is None else place_of(start),
            size=limit + _SPARE,
        )
        async for rows in pieces:
            found += await read(rows)
            if len(found) >= limit:
                break
        return found[:limit]

    async def of_owner(self, owner: str) -> AsyncIterator[Record]:
        """Every record of the owner that is shown, newest first."""
        async for rows in self.rows(owner, (), ("record",)):
            for record in await in_pieces(record_of, rows):
                yield record


def scope(
    group: str | None, doc: str | None, now: float, admitted: RecordFilter = EVERYTHING
) -> list[Filter]:
    """What an object must have: of the group and the document, if given, alive, and of its time.

    The milliseconds of a time let a little more through than the filter on records does.
    """
    found = [above("expires", now)]
    for name, span in (("at", admitted.occurred), ("created", admitted.created)):
        if span.start is not None:
            found.append(at_least(name, milliseconds(span.start)))
        if span.end is not None:
            found.append(at_most(name, milliseconds(span.end)))
    if group is not None:
        found.append(equal("group", hashed(group)))
    if doc is not None:
        found.append(equal("doc", hashed(doc)))
    return found
