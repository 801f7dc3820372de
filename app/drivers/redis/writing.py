"""Writing records: what is embedded, and the script that keeps them."""

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import cast

import numpy as np

from app.core.memory.derived import Derived, outline_of
from app.core.memory.embedded import check_vectors, text_and_name
from app.core.memory.once import repeated
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    Memory,
    Record,
    Version,
    is_alive,
    latest,
    uuid_of,
    version_of,
)
from app.core.memory.requests import Given, Keep, Put
from app.drivers.redis.database import Database
from app.drivers.redis.layout import (
    ID_BYTES,
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
from app.embedding import Vector
from app.pieces import in_pieces
from app.ranking.outlines import signs_of


class Writing:
    """Keeps records that are checked already: those of one call in one step."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._embedder = database.embedder

    async def keep(self, wanted: Keep[Kept], now: datetime) -> Sequence[Kept]:
        """Keep the records as `Keep` says; the records as they are there at that moment."""
        if wanted.once:
            return await self.once(wanted.records, now)
        if wanted.new:
            await self.store(wanted.records)
        else:
            await self.merge(wanted.records, wanted.given(self._database.model))
        return wanted.records

    async def store(self, records: Sequence[Record]) -> None:
        """Keep new ones, all or none."""
        derived = await self._embedded(records)
        await self._database.run(MERGE, *await self._arguments(records, derived))

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
            derived = await self._derived(newer, older, given)
            await self._database.run(MERGE, *await self._arguments(newer, derived))

    async def derived(self, records: Sequence[Record]) -> list[Derived | None]:
        """What was made of each record; None where it is not there in that version.

        No version ever comes back: where it is there at last, what was read before is its own.
        """
        memories = [record for record in records if isinstance(record, Memory)]
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        found: dict[Version, Derived] = {}
        language, model = self._database.language, self._database.model

        def find(
            record: Record, own: Vector | None, outline: bytes | None, now: bytes | None
        ) -> None:
            if own is not None and now is not None and version_in(now) == digits(record.updated_at):
                found[version_of(record)] = Derived(own, outline, language, model)

        if memories:
            vectors, outlines, there = await self._fields(memories, "v", "o", "r")
            for record, own, outline, now in zip(memories, vectors, outlines, there, strict=True):
                numbers = None if own is None else self._numbers(own)
                find(record, numbers, None if outline is None else outline[ID_BYTES:], now)
        if knowledge:
            before = [value or b"" for value in await self._there(knowledge)]
            kept = await self._kept([*zip(knowledge, before, strict=True)])
            there = await self._there(knowledge)
            for each, numbers, now in zip(knowledge, kept, there, strict=True):
                find(each, numbers, None, now)
        return [found.get(version_of(record)) for record in records]

    async def gone(self, keys: Sequence[Key], now: datetime) -> set[Key]:
        """Those under which nothing is, or what has expired."""
        names = self._database.names
        owners = [KNOWLEDGE if user is None else hashed(user) for user, _ in keys]
        places = zip(owners, keys, strict=True)
        there = await self._database.ask(
            *(("HGET", names.of("r", owner), uuid_of(one).bytes) for owner, (_, one) in places)
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
        derived: dict[int, Derived] = {}
        there = await self._there(records)
        for place, old in enumerate(there):
            if old is not None and is_alive(decoded(old), now):
                found[place] = _repeated(old, records[place], place)
        while left := [place for place in range(len(records)) if place not in found]:
            new = [place for place in left if place not in derived]
            made = await self._embedded([records[place] for place in new])
            derived |= zip(new, made, strict=True)
            arguments = await self._arguments(
                [records[place] for place in left], [derived[place] for place in left]
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
        derived = await self._embedded(wanted.records)
        count: int = await self._database.run(
            PUT,
            digits(now),
            owner,
            hashed(wanted.doc_id),
            digits(wanted.before),
            digits(wanted.created_at),
            *await self._arguments(wanted.records, derived),
        )
        return count

    async def replace(self, record: Record, over: datetime) -> bool:
        """Whether it put the record in the place of its version `over`."""
        there = await self._there([record])
        if there[0] is None or version_in(there[0]) != digits(over):
            return False
        derived = await self._derived([record], there, {})
        arguments = await self._arguments([record], derived)
        return bool(await self._database.run(REPLACE, digits(over), *arguments))

    async def _there(self, records: Sequence[Record]) -> list[bytes | None]:
        """What is kept under the records' ids."""
        [there] = await self._fields(records, "r")
        return there

    async def _fields(self, records: Sequence[Record], *kinds: str) -> list[list[bytes | None]]:
        """What the hashes of each kind keep under the records' ids, one kind after the other."""
        names, count = self._database.names, len(records)
        owners = [(owner, [*map(id_of, own)]) for owner, own in groupby(records, owner_of)]
        commands: list[Command] = [
            ("HMGET", names.of(kind, owner), *ids) for kind in kinds for owner, ids in owners
        ]
        answers = await self._database.ask(*commands)
        values = [value for answer in answers for value in answer]
        return [values[n * count : (n + 1) * count] for n in range(len(kinds))]

    async def _derived(
        self, records: Sequence[Record], there: Sequence[bytes | None], given: Given
    ) -> list[Derived]:
        """What is made of each record, but for the outlines that are not `given`.

        A text that has not changed keeps the vectors that it has.
        """
        kept = [(place, old) for place, old in enumerate(there) if old is not None]
        olds = await in_pieces(decoded, [old for _, old in kept])
        same = [
            place
            for (place, _), old in zip(kept, olds, strict=True)
            if text_and_name(old) == text_and_name(records[place])
        ]
        found = await self._kept([(records[place], there[place] or b"") for place in same])
        derived = {
            place: Derived(own) for place, own in zip(same, found, strict=True) if own is not None
        }
        check_vectors([own.vectors for own in given.values()], self._embedder.dimension)
        for place, record in enumerate(records):
            own = given.get(version_of(record))
            if own is not None:
                derived.setdefault(place, own)
        changed = [place for place in range(len(records)) if place not in derived]
        made = await self._embedded([records[place] for place in changed])
        derived |= zip(changed, made, strict=True)
        return [derived[place] for place in range(len(records))]

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
            found.append(None if None in parts else self._numbers(b"".join(parts)))
        return found

    def _numbers(self, kept: bytes) -> Vector:
        """Vectors as Redis keeps them, shape (windows, dimension)."""
        return np.frombuffer(kept, "<f4").reshape(-1, self._embedder.dimension)

    async def _embedded(self, records: Sequence[Record]) -> list[Derived]:
        if not records:
            return []
        texts = await in_pieces(text_and_name, records)
        vectors = await self._embedder.embed_texts(texts)
        check_vectors(vectors, self._embedder.dimension)
        return [*map(Derived, vectors)]

    async def _arguments(
        self, records: Sequence[Record], derived: Sequence[Derived]
    ) -> list[str | bytes]:
        """Six for each record, as the scripts take them."""
        language = self._database.language

        def six(pair: tuple[Record, Derived]) -> tuple[str | bytes, ...]:
            record, made = pair
            own, outline = made.vectors, made.outline_in(language) or b""
            if isinstance(record, Memory) and not outline:
                outline = outline_of(record, signs_of(own), language)
            return (
                owner_of(record),
                record.user_id.encode("utf-8", "surrogatepass")
                if isinstance(record, Memory)
                else b"",
                id_of(record),
                encoded(record, len(own)),
                outline,
                own.astype("<f4", copy=False).tobytes(),
            )

        sixes = await in_pieces(six, [*zip(records, derived, strict=True)])
        return [each for one in sixes for each in one]


def _repeated(old: bytes, record: Kept, place: int) -> Kept:
    return repeated(cast(Kept, decoded(old)), record, place)
