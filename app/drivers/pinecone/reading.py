"""Records as they are read: found by queries or by their ids, whole, and laid over."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from app.core.memory.moments import to_microseconds
from app.core.memory.records import Record, newest, record_id
from app.drivers.pinecone.bodies import MOST_MATCHES
from app.drivers.pinecone.index import Index, Match, Metadata
from app.drivers.pinecone.layout import Head, Row, constant, head_id, uuid_in
from app.drivers.pinecone.overlay import Overlay
from app.drivers.pinecone.puts import Puts
from app.drivers.pinecone.scope import Scope
from app.embedding import Vector
from app.errors import CapabilityMissing, DriverError, DriverUnavailable
from app.logs import get_logger

MOST_READ: Final = 20_000
"""Records that one call reads to find those that a filter lets through."""
TRIES: Final = 6
"""How often a record is read again that Pinecone does not show whole, or not of one put."""
_PAUSE_SECONDS: Final = 0.05
"""Before the first of these; twice as long before the next."""

_PARTS: Final = 50
"""Parts in one answer: each has 36 kB, and a vector."""

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Near:
    """What a query found. `least`: the cosine of the farthest; None: nothing else is there."""

    rows: list[Row]
    least: float | None = None


class Reading:
    """Reads the records of owners; every row is of the scope's owner, and laid over."""

    def __init__(
        self,
        index: Index,
        puts: Puts,
        now: Callable[[], datetime],
        seconds: Callable[[], float],
    ) -> None:
        """`now` is the driver's time, and `seconds` a clock that counts how long something is."""
        self.index = index
        self.puts = puts
        self.now = now
        self.overlay: Overlay[Row] = Overlay(seconds)

    async def rows(self, owner: str, ids: Iterable[UUID]) -> dict[UUID, Row]:
        """The owner's records of those ids that are there, whether expired or seen."""
        namespace = self.index.names.of(owner)
        wanted = {head_id(one): one for one in ids}
        heads = await self.index.fetch(namespace, [*wanted])
        found = await self._whole(owner, heads)
        over = {
            one: self.overlay.over(namespace, head, found.get(head)) for head, one in wanted.items()
        }
        return {one: row for one, row in over.items() if row is not None}

    async def nearest(self, scope: Scope, vector: Vector, count: int | None = None) -> Near:
        """The records of the scope that are nearest to the vector, as many as one answer has.

        What was written lately is among them, of whatever scope of the owner.
        """
        namespace = self.index.names.of(scope.owner)
        count = count or self.index.most
        matches, lsn = await self.index.query(namespace, vector, scope.condition("windows"), count)
        rows = await self._rows(scope.owner, matches)
        now, more = self.overlay.laid_over(namespace, rows, lsn)
        full = len(matches) >= count
        return Near([*now.values(), *more.values()], matches[-1].score if full else None)

    async def windows(self, scope: Scope, want: int) -> AsyncIterator[list[Row]]:
        """All records of the scope, those of a span of time together, from the newest span on.

        The first has about `want`. A record that is changed meanwhile may be in two of them.
        """
        namespace = self.index.names.of(scope.owner)
        until = scope.until
        while True:
            found, lsn, since = await self._span(scope, until, want)
            now, more = self.overlay.laid_over(namespace, found, lsn)
            part = scope.between(since, until)
            yield [row for row in (*now.values(), *more.values()) if _happened(row, part)]
            if since is None or (scope.since is not None and since <= scope.since):
                return
            until = since - 1

    async def everything(self, scope: Scope) -> list[Row]:
        """All records of the scope; raises `CapabilityMissing` where they are too many."""
        found: list[Row] = []
        async for rows in self.windows(scope, self.index.most // 2):
            found += rows
            if len(found) > MOST_READ:
                raise CapabilityMissing(
                    f"Pinecone would have to read more than {MOST_READ} records for this: narrow "
                    "it by a conversation or category, by tags or by time"
                )
        return latest_of(found)

    async def seen(self, owner: str, read: Callable[[], Awaitable[list[Row]]]) -> list[Row]:
        """What `read` gives, of each document as one put left it: of before or after another."""
        namespace = self.index.names.of(owner)
        for _ in range(TRIES):
            began = to_microseconds(self.now())
            rows, whole = await self.puts.seen(namespace, await read(), began)
            if whole:
                break
        return rows

    async def ids(self, owner: str) -> AsyncIterator[list[UUID]]:
        """The ids of all records of an owner, a page at a time, by the list of their vectors."""
        namespace = self.index.names.of(owner)
        listed: set[str] = set()
        async for ids in self.index.ids(namespace, "m"):
            listed.update(ids)
            yield [uuid_in(one) for one in ids]
        left = self.overlay.written(namespace).items()
        yield [uuid_in(one) for one, each in left if one not in listed and each.value is not None]

    async def all(self, owner: str) -> AsyncIterator[list[Row]]:
        """All records of an owner, a page at a time."""
        async for ids in self.ids(owner):
            yield [*(await self.rows(owner, ids)).values()]

    async def count(self, owner: str) -> int:
        """How many records of an owner have not expired."""
        namespace, now = self.index.names.of(owner), self.now()
        scope = Scope(owner=owner, alive=now)
        vector = constant(self.index.dimension)
        matches, lsn = await self.index.query(
            namespace, vector, scope.condition(), MOST_MATCHES, metadata=False
        )
        if len(matches) >= MOST_MATCHES:
            return sum([sum(_is_alive(row, now) for row in rows) async for rows in self.all(owner)])
        found = {match.id for match in matches}
        for one, known in self.overlay.written(namespace).items():
            if lsn is not None and known.lsn is not None and known.lsn <= lsn:
                continue
            if known.value is not None and _is_alive(known.value, now):
                found.add(one)
            else:
                found.discard(one)
        return len(found)

    async def _span(
        self, scope: Scope, until: int | None, want: int
    ) -> tuple[dict[str, Row], int | None, int | None]:
        """All records of the last span until then, the answer's LSN, and when the span begins.

        A query that is full has some of the records, whatever their time: so many of the newest of
        these tell where to begin.
        """
        since = scope.since
        while True:
            part = scope.between(since, until)
            rows, lsn, full = await self._part(part)
            if not full:
                return rows, lsn, since
            if since is not None and since == until:
                return await self._moment(part), lsn, since
            times = sorted((_milliseconds(row.looked_at) for row in rows.values()), reverse=True)
            begin = times[min(want, len(times) // 4)]
            since = begin if since is None or begin > since else since + 1

    async def _part(self, scope: Scope) -> tuple[dict[str, Row], int | None, bool]:
        """Records of the scope, as many as an answer has, and whether it is full."""
        namespace, vector = self.index.names.of(scope.owner), constant(self.index.dimension)
        matches, lsn = await self.index.query(namespace, vector, scope.condition(), self.index.most)
        full = len(matches) >= self.index.most
        return await self._rows(scope.owner, matches), lsn, full

    async def _moment(self, scope: Scope) -> dict[str, Row]:
        """All records of one millisecond, which are more than an answer has with their metadata."""
        namespace, vector = self.index.names.of(scope.owner), constant(self.index.dimension)
        matches, _ = await self.index.query(
            namespace, vector, scope.condition(), MOST_MATCHES, metadata=False
        )
        if len(matches) >= MOST_MATCHES:
            raise DriverError(reason=f"{MOST_MATCHES} records or more are of one millisecond")
        ids = {uuid_in(match.id) for match in matches}
        rows = await self.rows(scope.owner, ids)
        return {head_id(one): row for one, row in rows.items()}

    async def _rows(self, owner: str, matches: Sequence[Match]) -> dict[str, Row]:
        """The records whose heads or windows were found."""
        namespace = self.index.names.of(owner)
        heads = {match.id: match.metadata for match in matches if match.id[0] == "m"}
        others = {head_id(uuid_in(match.id)) for match in matches} - heads.keys()
        heads |= await self.index.fetch(namespace, [*others])
        rows = await self._whole(owner, heads)
        for one in others - rows.keys():
            known = self.overlay.find(namespace, one)
            if known is not None and known.value is not None:
                rows[one] = known.value
        return rows

    async def _whole(self, owner: str, heads: Mapping[str, Metadata]) -> dict[str, Row]:
        """The rows of these heads; reads again what is not whole yet, or no longer."""
        namespace, pause = self.index.names.of(owner), _PAUSE_SECONDS
        found: dict[str, Row] = {}
        for _ in range(TRIES):
            known = {one: _head(one, each, owner) for one, each in heads.items()}
            mine = {one: head for one, head in known.items() if head is not None}
            parts = await self._parts(namespace, [*mine.values()])
            broken = []
            for one, head in mine.items():
                row = head.row(parts.get(part, "") for part in head.parts)
                lately = self.overlay.find(namespace, one)
                if row is not None:
                    found[one] = row
                elif lately is None or lately.version < int(head.metadata["e"]):
                    broken.append(one)
                elif lately.value is not None:
                    found[one] = lately.value
            if not broken:
                return found
            await asyncio.sleep(pause)
            pause *= 2
            heads = await self.index.fetch(namespace, broken)
        raise DriverUnavailable(reason="Pinecone does not show all parts of a record yet")

    async def _parts(self, namespace: str, heads: Sequence[Head]) -> dict[str, str]:
        wanted = [part for head in heads for part in head.parts]
        found = await self.index.fetch(namespace, wanted, _PARTS)
        return {one: str(metadata.get("b", "")) for one, metadata in found.items()}


def _head(one: str, metadata: Metadata, owner: str) -> Head | None:
    """The head; None where it is not one of the owner's, which is reported."""
    if metadata.get("u") != owner or not {"a", "b", "e", "f", "n", "q"} <= metadata.keys():
        _log.error("another_owners_record", reason="it is in the namespace of the owner")
        return None
    return Head(one, metadata)


def _milliseconds(record: Record) -> int:
    return to_microseconds(newest(record)[0]) // 1_000


def _happened(row: Row, part: Scope) -> bool:
    when = _milliseconds(row.looked_at)
    return (part.since is None or part.since <= when) and (part.until is None or when <= part.until)


def _is_alive(row: Row, now: datetime) -> bool:
    record = row.looked_at
    return record.expires_at is None or now < record.expires_at


def latest_of(rows: Iterable[Row]) -> list[Row]:
    """Each record once, in its latest version."""
    found: dict[str, Row] = {}
    for row in rows:
        one = record_id(row.looked_at)
        if one not in found or found[one].version < row.version:
            found[one] = row
    return [*found.values()]
