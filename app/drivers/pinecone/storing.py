"""Rows into Pinecone and out of it: in as few requests as it takes, all of a call's or none."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from app.core.memory.records import Memory, Record, record_id
from app.drivers.pinecone.bodies import MOST_BYTES, MOST_UPSERTED, Stored
from app.drivers.pinecone.index import at_once
from app.drivers.pinecone.layout import (
    Row,
    constant,
    entry,
    expiry,
    head_id,
    owner_of,
    ownership,
    stored,
)
from app.drivers.pinecone.overlay import too_many
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.scope import Scope
from app.errors import MemoryServiceError, PartlyStored
from app.logs import get_logger
from app.pieces import in_pieces
from app.ranking.words import hashes, words

_A_VECTOR: Final = 200
"""Bytes of a vector in JSON beside its numbers and its metadata, or some more."""
_MOST_ASKED: Final = 3
"""How many namespaces are asked whether they show what was written, where there is no room."""

_log = get_logger(__name__)


class Storing:
    """Keeps and deletes rows. What it did, the next read of this process shows."""

    def __init__(self, reading: Reading, language: str) -> None:
        self._reading = reading
        self._index = reading.index
        self._language = language

    async def keep(
        self, rows: Sequence[Row], there: Mapping[str, Row], *, undo: bool = False
    ) -> None:
        """Keep the rows, in the place of those that are `there`, by the keys of `key_of`.

        With `undo`, where they take several requests and one fails, those that were kept are
        deleted again; raises `PartlyStored` where that fails too.
        """
        await self._make_room(sum(row.size for row in rows))
        vectors = await in_pieces(self._stored, rows)
        by_owner: dict[str, list[list[Stored]]] = defaultdict(list)
        for row, own in zip(rows, vectors, strict=True):
            by_owner[owner_of(row.looked_at)].append(own)
        await self._keep_entries(rows, there)
        logs = await self._keep_all(by_owner, undo=undo)
        for row in rows:
            owner = owner_of(row.looked_at)
            namespace = self._index.names.of(owner)
            self._reading.overlay.keep(namespace, _head(row), row, logs[owner])
        await self._delete_leftovers(rows, there)

    async def delete(self, owner: str, rows: Sequence[Row]) -> None:
        """Delete rows of the owner, their heads first, and the entries of them."""
        namespace = self._index.names.of(owner)
        ids = [*map(_head, rows), *(each for row in rows for each in row.others)]
        lsn = await self._index.delete(namespace, ids)
        for row in rows:
            self._reading.overlay.delete(namespace, _head(row), row.version, lsn)
        await self._delete_entries(owner, rows)

    def _stored(self, row: Row) -> list[Stored]:
        record = row.looked_at
        found: list[int] = []
        if isinstance(record, Memory):
            found = hashes(words(record.content, self._language).every).tolist()
        return stored(row, found, self._index.room)

    async def _keep_all(
        self, by_owner: Mapping[str, Sequence[Sequence[Stored]]], *, undo: bool
    ) -> dict[str, int | None]:
        """Keep the vectors, the heads last; by owner, how far the log goes then."""
        requests: list[tuple[str, list[Stored]]] = []
        for owner, rows in by_owner.items():
            others = [vector for own in rows for vector in own[:-1]]
            requests += [(owner, part) for part in _requests(others)]
        for owner, rows in by_owner.items():
            requests += [(owner, part) for part in _requests([own[-1] for own in rows])]
        logs: dict[str, int | None] = {}
        for n, (owner, part) in enumerate(requests):
            try:
                logs[owner] = await self._index.upsert(self._index.names.of(owner), part)
            except MemoryServiceError as error:
                if undo and n:
                    await self._take_back(requests[: n + 1], error)
                raise
        return logs

    async def _take_back(
        self, requests: Sequence[tuple[str, Sequence[Stored]]], error: MemoryServiceError
    ) -> None:
        try:
            for owner, part in reversed(requests):
                ids = [vector["id"] for vector in part]
                await self._index.delete(self._index.names.of(owner), ids)
        except MemoryServiceError:
            heads = [each["id"] for _, part in requests for each in part if each["id"][0] == "m"]
            named = ", ".join(str(UUID(one[1:])) for one in heads[:20])
            _log.error("batch_partly_stored", records=len(heads))
            raise PartlyStored(
                f"{len(heads)} of the records may be stored, among them {named}" if heads else None,
                reason=error.reason,
            ) from error

    async def _keep_entries(self, rows: Sequence[Row], there: Mapping[str, Row]) -> None:
        """Keep what tells the owners of new memories, and what expires; before these are there."""
        names, dimension = self._index.names, self._index.dimension
        entries: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            record, old = row.looked_at, there.get(key_of(row))
            due = expiry(record)
            if due is not None and (old is None or expiry(old.looked_at) != due):
                entries[names.expiring].append(due)
            if isinstance(record, Memory) and old is None:
                one = UUID(record.memory_id)
                entries[names.owners(one)].append(ownership(one, owner_of(record)))

        async def keep(named: tuple[str, list[str]]) -> None:
            namespace, ids = named
            for part in _requests([entry(each, dimension) for each in ids]):
                await self._index.upsert(namespace, part)

        await at_once(keep, [*entries.items()])

    async def _delete_entries(self, owner: str, rows: Sequence[Row]) -> None:
        entries: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            record = row.looked_at
            if (due := expiry(record)) is not None:
                entries[self._index.names.expiring].append(due)
            if isinstance(record, Memory):
                one = UUID(record.memory_id)
                entries[self._index.names.owners(one)].append(ownership(one, owner))

        async def delete(named: tuple[str, list[str]]) -> None:
            await self._index.delete(*named)

        await at_once(delete, [*entries.items()])

    async def _delete_leftovers(self, rows: Sequence[Row], there: Mapping[str, Row]) -> None:
        """Delete what nobody reads any more of replaced versions: windows, parts and entries."""
        names = self._index.names
        left: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            old = there.get(key_of(row))
            if old is None:
                continue
            left[names.of(owner_of(old.looked_at))] += old.others
            due = expiry(old.looked_at)
            if due is not None and due != expiry(row.looked_at):
                left[names.expiring].append(due)
        for namespace, ids in left.items():
            if not ids:
                continue
            try:
                await self._index.delete(namespace, ids)
            except MemoryServiceError as error:  # the write has happened
                _log.warning("leftovers_not_deleted", reason=error.reason)

    async def _make_room(self, size: int) -> None:
        """Wait for Pinecone to show what was written before, where this process can't keep more."""
        overlay, vector = self._reading.overlay, constant(self._index.dimension)
        for _ in range(_MOST_ASKED):
            namespace = overlay.behind(size)
            if namespace is None:
                return
            anything = Scope(owner="").condition()
            _, lsn = await self._index.query(namespace, vector, anything, 1, metadata=False)
            overlay.note(namespace, lsn)
        if overlay.behind(size) is not None:
            raise too_many()


def key_of(row: Row) -> str:
    """What all versions of a row share, and no two rows do."""
    return key_of_record(row.looked_at)


def key_of_record(record: Record) -> str:
    return f"{owner_of(record)}.{record_id(record)}"


def _head(row: Row) -> str:
    return head_id(UUID(record_id(row.looked_at)))


def _requests(vectors: Sequence[Stored]) -> Iterator[list[Stored]]:
    """The vectors in as few requests as Pinecone takes them in, in their order."""
    part: list[Stored] = []
    size = 0
    for vector in vectors:
        length = _A_VECTOR + len(str(vector["values"])) + _size(vector["metadata"])
        if part and (len(part) >= MOST_UPSERTED or size + length > MOST_BYTES):
            yield part
            part, size = [], 0
        part.append(vector)
        size += length
    if part:
        yield part


def _size(metadata: Mapping[str, Any]) -> int:
    """Bytes of the metadata as JSON, or some more: all of its texts are ASCII."""
    return sum(
        30 + (36 * len(each) if isinstance(each, list) else len(str(each)))
        for each in metadata.values()
    )
