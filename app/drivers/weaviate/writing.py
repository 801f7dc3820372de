"""Writing records: what is embedded, and what is done so that a batch is kept whole or not at all.

Weaviate keeps each object by itself, and compares nothing: so this process makes the changes of one
owner one after the other, and looks at what is there before each.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import Final, cast

from app.core.memory.derived import outline_of
from app.core.memory.embedded import check_vectors, text_and_name
from app.core.memory.once import repeated
from app.core.memory.records import (
    Kept,
    Memory,
    Record,
    document_of,
    is_alive,
    latest,
    record_id,
)
from app.drivers.weaviate.answers import Row
from app.drivers.weaviate.bodies import ID as OBJECT_ID
from app.drivers.weaviate.bodies import Thing, any_of
from app.drivers.weaviate.database import Database, pieces
from app.drivers.weaviate.errors import ObjectsRefused, did_nothing
from app.drivers.weaviate.layout import (
    KNOWLEDGE,
    digits,
    hashed,
    id_of,
    object_id,
    owner_of,
    things_of,
    user_mark,
    vectors_in,
)
from app.drivers.weaviate.reading import record_of
from app.embedding import Embedder, Vector
from app.errors import DatabaseChanged, MemoryServiceError, PartlyStored, PoolExhausted
from app.pieces import in_pieces
from app.ranking.outlines import signs_of
from app.turns import Turns

_THERE: Final = ("key", "doc", "put", "version", "windows", "record", "vectors")
_AT_ONCE = 500

Made = tuple[Record, Vector, str | None]
"""A record, its vectors, and the moment of its put."""


class Writing:
    """Keeps records that are checked already."""

    def __init__(
        self, database: Database, embedder: Embedder, timeout: float, now: Callable[[], datetime]
    ) -> None:
        self._database = database
        self._embedder = embedder
        self._timeout = timeout
        self._now = now
        self._turns = Turns()

    @asynccontextmanager
    async def turn(self, *owners: str) -> AsyncIterator[None]:
        """The turn to change what the owners have; waits for it as long as for a connection."""
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._timeout):
                    await stack.enter_async_context(self._turns.of_all(owners))
            except TimeoutError:
                raise PoolExhausted from None
            yield

    async def store(self, records: Sequence[Record]) -> None:
        """Keep new ones, all or none."""
        vectors = await self.embedded(records)
        made = [(record, own, None) for record, own in zip(records, vectors, strict=True)]
        await self.keep_whole(await self.things(made))

    async def merge(self, records: Sequence[Record]) -> None:
        """Keep those that are not there, or only in an older version."""
        await self._embedder.open()
        async with self.turn(*map(owner_of, records)):
            newest = [*latest(records, id_of).values()]
            there = await self.there(newest)
            due = [record for record in newest if _is_newer(record, there.get(id_of(record)))]
            if due:
                await self._replace(due, there)

    async def replace(self, record: Record, over: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        async with self.turn(owner_of(record)):
            there = await self.there([record])
            old = there.get(id_of(record))
            if old is None or old.texts["version"] != digits(over):
                return False
            await self._replace([record], there)
            return True

    async def once(self, records: Sequence[Kept]) -> list[Kept]:
        """Keep those under whose ids nothing is; all of them as they are there.

        Keeps all of them or none: raises `Conflict` with the place of one under whose id another
        request is. No id comes twice.
        """
        async with self.turn(*map(owner_of, records)):
            there = await self.there(records)
            now, found = self._now(), dict[int, Kept]()
            for place, record in enumerate(records):
                row = there.get(id_of(record))
                old = None if row is None else cast(Kept, record_of(row))
                if old is not None and is_alive(old, now):
                    found[place] = repeated(old, record, place)
            new = [record for place, record in enumerate(records) if place not in found]
            if new:
                vectors = await self.embedded(new)
                made = [(record, own, None) for record, own in zip(new, vectors, strict=True)]
                await self.keep_whole(await self.things(made))
                await self._without_rest(new, vectors, there)
        return [found.get(place, record) for place, record in enumerate(records)]

    async def _replace(self, records: Sequence[Record], there: dict[str, Row]) -> None:
        """Keep the records in the place of what is there of them."""
        vectors = await self._vectors(records, there)
        puts = [_put_of(record, there.get(id_of(record))) for record in records]
        await self.keep_each(await self.things([*zip(records, vectors, puts, strict=True)]))
        await self._without_rest(records, vectors, there)

    async def _without_rest(
        self, records: Sequence[Record], vectors: Sequence[Vector], there: dict[str, Row]
    ) -> None:
        """Delete the windows of older versions that had more of them."""
        left: list[str] = []
        for record, own in zip(records, vectors, strict=True):
            old = there.get(id_of(record))
            if old is not None and owner_of(record) == KNOWLEDGE:
                windows = int(old.numbers.get("windows", 1))
                left += [
                    object_id(KNOWLEDGE, record_id(record), n) for n in range(len(own), windows)
                ]
        await self._database.delete_ids(self._database.names.knowledge, left)

    async def keep_each(self, things: Sequence[Thing]) -> None:
        """Keep the objects; after an error some may be kept."""
        kept = 0
        try:
            for some in pieces(things):
                await self._database.keep(some)
                kept += len(some)
        except MemoryServiceError as error:
            kept += len(some) - 1 if isinstance(error.__cause__, ObjectsRefused) else 0
            if not kept or error.uncertain:
                raise
            raise PartlyStored(reason=error.reason) from error

    async def keep_whole(self, things: Sequence[Thing]) -> None:
        """Keep new objects, all or none: what was kept when it fails is deleted again.

        An answer that was lost is made good by looking.
        """
        kept = 0
        try:
            for some in pieces(things):
                await self._database.keep(some)
                kept += len(some)
        except MemoryServiceError as error:
            if isinstance(error, DatabaseChanged) or (not kept and did_nothing(error)):
                raise
            if not await self._arrived(things, error):
                raise

    async def _arrived(self, things: Sequence[Thing], error: MemoryServiceError) -> bool:
        """Whether all of the objects are there although an answer was lost; else none is left."""
        own = [thing for thing in things if "version" in thing.values]
        versions = {thing.uuid: thing.values["version"] for thing in own}
        try:
            there: dict[str, list[str]] = {}
            for collection in dict.fromkeys(thing.collection for thing in own):
                ids = [thing.uuid for thing in own if thing.collection == collection]
                rows = await self._database.by_ids(collection, ids, ("version",))
                there[collection] = [
                    row.uuid for row in rows if row.texts["version"] == versions[row.uuid]
                ]
            if error.uncertain and sum(map(len, there.values())) == len(own):
                return True
            for collection, ids in there.items():
                await self._database.delete_ids(collection, ids)
        except MemoryServiceError as another:
            raise PartlyStored(reason=f"{error.reason}; {another.reason}") from error
        return False

    async def mark(self, record: Record) -> None:
        """Keep the name of the record's user."""
        if isinstance(record, Memory):
            await self.keep_each([user_mark(self._database.names, record.user_id, self._now())])

    async def there(self, records: Sequence[Record]) -> dict[str, Row]:
        """What is kept of the records, by the ids of their objects."""
        found: dict[str, Row] = {}
        ids: dict[str, list[str]] = {}
        for record in records:
            ids.setdefault(self._database.names.of(owner_of(record)), []).append(id_of(record))
        for collection, own in ids.items():
            for n in range(0, len(own), _AT_ONCE):
                some = own[n : n + _AT_ONCE]
                rows = await self._database.search(
                    collection,
                    any_of(OBJECT_ID, some),
                    _THERE,
                    len(some),
                    vectors=collection == self._database.names.knowledge,
                )
                found |= {row.uuid: row for row in rows}
        return found

    async def _vectors(self, records: Sequence[Record], there: dict[str, Row]) -> list[Vector]:
        """Those of each record: what a text that has not changed has, if that is at hand."""
        vectors: dict[int, Vector] = {}
        for place, record in enumerate(records):
            old = there.get(id_of(record))
            if old is None or text_and_name(record_of(old)) != text_and_name(record):
                continue
            if isinstance(record, Memory):
                vectors[place] = vectors_in(old.texts["vectors"], self._embedder.dimension)
            elif old.vector is not None and old.numbers.get("windows") == 1:
                vectors[place] = old.vector.reshape(1, -1)
        changed = [place for place in range(len(records)) if place not in vectors]
        made = await self.embedded([records[place] for place in changed])
        vectors |= zip(changed, made, strict=True)
        return [vectors[place] for place in range(len(records))]

    async def embedded(self, records: Sequence[Record]) -> list[Vector]:
        """The vectors of each record, shape (windows, dimension)."""
        if not records:
            return []
        vectors = await self._embedder.embed_texts(await in_pieces(text_and_name, records))
        check_vectors(vectors, self._embedder.dimension)
        return vectors

    async def things(self, made: Sequence[Made]) -> list[Thing]:
        """The objects of records, and the marks of their users, which come last."""
        kept, names = self._now(), self._database.names

        def objects(one: Made) -> list[Thing]:
            record, own, put = one
            outline = b""
            if isinstance(record, Memory):
                outline = outline_of(record, signs_of(own), self._database.language)
            return things_of(names, record, own, outline, kept, put)

        things = [each for some in await in_pieces(objects, made) for each in some]
        users = dict.fromkeys(one[0].user_id for one in made if isinstance(one[0], Memory))
        return [*things, *(user_mark(names, user, kept) for user in users)]


def _is_newer(record: Record, old: Row | None) -> bool:
    return old is None or old.texts["version"] < digits(record.updated_at)


def _put_of(record: Record, old: Row | None) -> str | None:
    """The put that the record stays a part of."""
    doc = document_of(record)
    if old is None or doc is None or old.texts.get("doc") != hashed(doc):
        return None
    return old.texts.get("put")
