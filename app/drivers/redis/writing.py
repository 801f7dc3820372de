"""Writing records: what is embedded, and the script that keeps them."""

from collections.abc import Sequence
from datetime import datetime
from typing import cast
from uuid import UUID

import numpy as np

from app.core.memory.embedded import check_vectors, text_and_name
from app.core.memory.once import repeated
from app.core.memory.records import Kept, Key, Memory, Record, is_alive, latest, version_of
from app.core.memory.requests import Given, Put
from app.drivers.redis.database import Database
from app.drivers.redis.layout import (
    KNOWLEDGE,
    decoded,
    digits,
    encoded,
    expires_in,
    hashed,
    id_of,
    owner_of,
    version_in,
    windows_in,
)
from app.drivers.redis.scripts import MERGE, ONCE, PUT, REPLACE
from app.drivers.redis.server import Command
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.outlines import packed, signs_of


class Writing:
    """Keeps records that are checked already: those of one call in one step."""

    def __init__(self, database: Database, embedder: Embedder) -> None:
        self._database = database
        self._embedder = embedder

    async def store(self, records: Sequence[Record]) -> None:
        """Keep new ones, all or none."""
        vectors = await self._embedded(records)
        await self._database.run(MERGE, *await self._arguments(records, vectors))

    async def merge(self, records: Sequence[Record], given: Given) -> None:
        """Keep those that are not there, or only in an older version."""
        records = [*latest(records, lambda record: (owner_of(record), id_of(record))).values()]
        there = await self._there(records)
        wanted = [
            (record, old)
            for record, old in zip(records, there, strict=True)
            if old is None or version_in(old) < digits(record.updated_at)
        ]
        if wanted:
            newer, older = zip(*wanted, strict=True)
            vectors = await self._vectors(newer, older, given)
            await self._database.run(MERGE, *await self._arguments(newer, vectors))

    async def vectors(self, records: Sequence[Record]) -> list[Vector | None]:
        """The vectors of each record; None where it is not there in that version.

        No version ever comes back: where it is there at last, the vectors are its own.
        """
        knowledge = [record for record in records if owner_of(record) == KNOWLEDGE]
        windows = dict(zip(map(id_of, knowledge), await self._there(knowledge), strict=True))
        values = [windows.get(id_of(record)) or b"" for record in records]
        kept = await self._kept([*zip(records, values, strict=True)])
        there = await self._there(records)
        return [
            own if now is not None and version_in(now) == digits(record.updated_at) else None
            for record, own, now in zip(records, kept, there, strict=True)
        ]

    async def gone(self, keys: Sequence[Key], now: datetime) -> set[Key]:
        """Those under which nothing is, or what has expired."""
        names = self._database.names
        owners = [KNOWLEDGE if user is None else hashed(user) for user, _ in keys]
        places = zip(owners, keys, strict=True)
        there = await self._database.ask(
            *(("HGET", names.of("r", owner), UUID(one).bytes) for owner, (_, one) in places)
        )
        return {
            key
            for key, old in zip(keys, there, strict=True)
            if old is None or expires_in(old) <= digits(now)
        }

    async def once(self, records: Sequence[Kept], now: datetime) -> list[Kept]:
        """Keep those under whose ids nothing is at that moment; all of them as they are there.

        Keeps all of them or none: raises `Conflict` with the place of one under whose id another
        request is. No id comes twice.
        """
        found: dict[int, Kept] = {}
        vectors: dict[int, Vector] = {}
        there = await self._there(records)
        for place, old in enumerate(there):
            if old is not None and is_alive(decoded(old), now):
                found[place] = _repeated(old, records[place], place)
        while left := [place for place in range(len(records)) if place not in found]:
            new = [place for place in left if place not in vectors]
            made = await self._embedded([records[place] for place in new])
            vectors |= zip(new, made, strict=True)
            arguments = await self._arguments(
                [records[place] for place in left], [vectors[place] for place in left]
            )
            there = await self._database.run(ONCE, digits(now), *arguments)
            if not there:
                break
            for place, old in zip(left, there, strict=True):  # others were quicker
                if old is not None:
                    found[place] = _repeated(old, records[place], place)
        return [found.get(place, record) for place, record in enumerate(records)]

    async def put(self, wanted: Put[Kept], now: datetime) -> int:
        """Keep the records in the place of the document's others; how many of those were there."""
        owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
        vectors = await self._embedded(wanted.records)
        count: int = await self._database.run(
            PUT,
            digits(now),
            owner,
            hashed(wanted.doc_id),
            digits(wanted.before),
            digits(wanted.created_at),
            *await self._arguments(wanted.records, vectors),
        )
        return count

    async def replace(self, record: Record, over: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        there = await self._there([record])
        if there[0] is None or version_in(there[0]) != digits(over):
            return False
        vectors = await self._vectors([record], there, {})
        arguments = await self._arguments([record], vectors)
        return bool(await self._database.run(REPLACE, digits(over), *arguments))

    async def _there(self, records: Sequence[Record]) -> list[bytes | None]:
        """What is kept under the records' ids."""
        names = self._database.names
        return await self._database.ask(
            *(("HGET", names.of("r", owner_of(record)), id_of(record)) for record in records)
        )

    async def _vectors(
        self, records: Sequence[Record], there: Sequence[bytes | None], given: Given
    ) -> list[Vector]:
        """Those of each record; what is `given` is not made.

        A text that has not changed keeps what it has.
        """
        olds = await in_pieces(lambda old: None if old is None else decoded(old), there)
        same = [
            place
            for place, (record, old) in enumerate(zip(records, olds, strict=True))
            if old is not None and text_and_name(old) == text_and_name(record)
        ]
        found = await self._kept([(records[place], there[place] or b"") for place in same])
        vectors = {place: own for place, own in zip(same, found, strict=True) if own is not None}
        for place, record in enumerate(records):
            own = given.get(version_of(record))
            if own is not None and place not in vectors:
                check_vectors(own, self._embedder.dimension)
                vectors[place] = own
        changed = [place for place in range(len(records)) if place not in vectors]
        made = await self._embedded([records[place] for place in changed])
        vectors |= zip(changed, made, strict=True)
        return [vectors[place] for place in range(len(records))]

    async def _kept(self, wanted: Sequence[tuple[Record, bytes]]) -> list[Vector | None]:
        """The vectors of records that are kept; None where one is gone."""
        if not wanted:
            return []
        commands: list[Command] = []
        counts: list[int] = []
        names = self._database.names
        for record, value in wanted:
            one = id_of(record)
            if owner_of(record) == KNOWLEDGE:
                windows = range(windows_in(value))
                own: list[Command] = [
                    ("HGET", names.of("i", one.hex(), str(n)), "v") for n in windows
                ]
            else:
                own = [("HGET", names.of("v", owner_of(record)), one)]
            commands += own
            counts.append(len(own))
        answers = iter(await self._database.ask(*commands))
        found: list[Vector | None] = []
        for count in counts:
            parts = [next(answers) for _ in range(count)]
            whole = None if None in parts else np.frombuffer(b"".join(parts), "<f4")
            found.append(None if whole is None else whole.reshape(-1, self._embedder.dimension))
        return found

    async def _embedded(self, records: Sequence[Record]) -> list[Vector]:
        if not records:
            return []
        texts = await in_pieces(text_and_name, records)
        vectors = await self._embedder.embed_texts(texts)
        for own in vectors:
            check_vectors(own, self._embedder.dimension)
        return vectors

    async def _arguments(
        self, records: Sequence[Record], vectors: Sequence[Vector]
    ) -> list[str | bytes]:
        """Six for each record, as the scripts take them."""

        def six(pair: tuple[Record, Vector]) -> tuple[str | bytes, ...]:
            record, own = pair
            outline = b""
            if isinstance(record, Memory):
                outline = packed(
                    record.content,
                    record.metadata,
                    record.conversation_id,
                    record.created_at,
                    signs_of(own),
                    self._database.language,
                    occurred_at=record.occurred_at,
                    expires_at=record.expires_at,
                )
            return (
                owner_of(record),
                record.user_id.encode("utf-8", "surrogatepass")
                if isinstance(record, Memory)
                else b"",
                id_of(record),
                encoded(record, len(own)),
                outline,
                own.astype("<f4").tobytes(),
            )

        sixes = await in_pieces(six, [*zip(records, vectors, strict=True)])
        return [each for one in sixes for each in one]


def _repeated(old: bytes, record: Kept, place: int) -> Kept:
    return repeated(cast(Kept, decoded(old)), record, place)
