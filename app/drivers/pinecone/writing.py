"""Writing records: what is embedded, compared with what is there, and kept."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, cast
from uuid import UUID

from app.core.memory.clock import Clock
from app.core.memory.derived import outline_of
from app.core.memory.embedded import check_vectors, text_and_name
from app.core.memory.moments import EPOCH, to_microseconds
from app.core.memory.once import repeated
from app.core.memory.records import Kept, Memory, Record, is_alive, latest, record_id
from app.drivers.pinecone.layout import Row, owner_of
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.storing import Storing, key_of, key_of_record
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.outlines import signs_of
from app.turns import Turns

_NEVER: Final = -(2**63)
"""The version of what is not there."""


class Writing:
    """Keeps records that are checked already.

    Pinecone can't compare and set: a record's turn lets no other write of this process come
    between. Of writes of two processes within seconds the later one counts.
    """

    def __init__(
        self, reading: Reading, storing: Storing, embedder: Embedder, language: str, turns: Turns
    ) -> None:
        self._reading = reading
        self._storing = storing
        self._embedder = embedder
        self._language = language
        self._turns = turns

    async def store(self, records: Sequence[Record], at: datetime) -> None:
        """Keep new ones, all or none."""
        rows = await self.rows(records, at)
        await self._storing.keep(rows, {}, undo=True)

    async def merge(self, records: Sequence[Record], at: datetime) -> None:
        """Keep those that are not there, or only in an older version."""
        records = [*latest(records, key_of_record).values()]
        async with self._turns.of_all(map(key_of_record, records)):
            there = await self.there(records)
            seen = {key_of(row): row.version for row in await self.seen([*there.values()])}
            newer = [
                record
                for record in records
                if seen.get(key_of_record(record), _NEVER) < to_microseconds(record.updated_at)
            ]
            if newer:
                rows = await self.rows(newer, at, there)
                await self._storing.keep(rows, _those(there, rows))

    async def once(self, records: Sequence[Kept], at: datetime, now: datetime) -> list[Kept]:
        """Keep those under whose ids nothing is at that moment; all of them as they are there.

        Keeps all of them or none: raises `Conflict` with the place of one under whose id another
        request is. No id comes twice.
        """
        async with self._turns.of_all(map(key_of_record, records)):
            there = await self.there(records)
            seen = {key_of(row) for row in await self.seen([*there.values()])}
            found: dict[int, Kept] = {}
            for place, record in enumerate(records):
                key = key_of_record(record)
                old = there[key].record if key in seen else None
                if old is not None and is_alive(old, now):
                    found[place] = repeated(cast(Kept, old), record, place)
            new = [record for place, record in enumerate(records) if place not in found]
            if new:
                rows = await self.rows(new, at)
                await self._storing.keep(rows, _those(there, rows), undo=True)
        return [found.get(place, record) for place, record in enumerate(records)]

    async def replace(self, record: Record, over: datetime, at: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        async with self._turns.of(key_of_record(record)):
            there = await self.there([record])
            seen = await self.seen([*there.values()])
            if not seen or seen[0].version != to_microseconds(over):
                return False
            rows = await self.rows([record], at, there)
            await self._storing.keep(rows, there)
        return True

    async def delete(
        self, owner: str, ids: Iterable[UUID], which: Callable[[Row], bool]
    ) -> list[Row]:
        """Delete those of the owner's records of these ids that are `which`; all of them."""
        ids = [*ids]
        async with self._turns.of_all(f"{owner}.{one}" for one in ids):
            there = await self._reading.rows(owner, ids)
            rows = [row for row in there.values() if which(row)]
            if rows:
                await self._storing.delete(owner, rows)
        return rows

    async def there(self, records: Iterable[Record]) -> dict[str, Row]:
        """What is kept under the records' ids, by `key_of`."""
        by_owner: dict[str, list[UUID]] = defaultdict(list)
        for record in records:
            by_owner[owner_of(record)].append(UUID(record_id(record)))
        found = {}
        for owner, ids in by_owner.items():
            for row in (await self._reading.rows(owner, ids)).values():
                found[key_of(row)] = row
        return found

    async def seen(self, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that no put has replaced, and that are not of one that is not made."""
        by_owner: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_owner[owner_of(row.looked_at)].append(row)
        found: list[Row] = []
        for owner, own in by_owner.items():
            namespace = self._reading.index.names.of(owner)
            found += (await self._reading.puts.seen(namespace, own, 0))[0]
        return found

    async def rows(
        self,
        records: Sequence[Record],
        at: datetime,
        there: Mapping[str, Row] | None = None,
        *,
        staged: bool = False,
    ) -> list[Row]:
        """The records as rows. A text that has not changed keeps the vectors that it has."""
        olds = [(there or {}).get(key_of_record(record)) for record in records]
        vectors: dict[int, Vector] = {}
        for place, (record, old) in enumerate(zip(records, olds, strict=True)):
            if old is not None and text_and_name(old.looked_at) == text_and_name(record):
                vectors[place] = old.vectors
        changed = [place for place in range(len(records)) if place not in vectors]
        texts = await in_pieces(lambda place: text_and_name(records[place]), changed)
        made = await self._embedder.embed_texts(texts) if texts else []
        check_vectors(made, self._embedder.dimension)
        vectors |= zip(changed, made, strict=True)

        def row(pair: tuple[int, Record]) -> Row:
            place, record = pair
            own = vectors[place]
            return Row.of(record, self._outline(record, own), own, at, staged=staged)

        return await in_pieces(row, enumerate(records))

    def _outline(self, record: Record, vectors: Vector) -> bytes:
        if not isinstance(record, Memory):
            return b""
        return outline_of(record, signs_of(vectors), self._language)


def _those(there: Mapping[str, Row], rows: Sequence[Row]) -> dict[str, Row]:
    """What is there of these rows."""
    keys = {key_of(row) for row in rows}
    return {key: row for key, row in there.items() if key in keys}


def moment_of(clock: Clock) -> datetime:
    """A moment later than every one that the clock gave before, in microseconds."""
    return clock.version(EPOCH)
