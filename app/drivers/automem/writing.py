"""Storing and deleting, also when an answer gets lost on the way."""

import asyncio
import json
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from datetime import datetime
from itertools import chain
from typing import Any, TypeVar

from app.core.memory.records import Key, Record, key_of, record_id
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.lookup import rows_of
from app.drivers.automem.mapping import Clock, Row, Tags, to_automem
from app.drivers.automem.unembedded import Unembedded
from app.drivers.automem.versions import displaced, outdated
from app.errors import (
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PartlyStored,
    raise_uncertain,
)
from app.logs import get_logger
from app.transport import was_sent

BATCH = 500
"""The most memories that AutoMem takes at once."""
_BODY_BYTES = 8_000_000
_AT_ONCE = 8
"""Deletes under way together."""

S = TypeVar("S")
T = TypeVar("T")

_log = get_logger(__name__)


class Writer:
    """Puts records into AutoMem and takes them out."""

    def __init__(
        self,
        client: AutomemClient,
        tags: Tags,
        unembedded: Unembedded,
    ) -> None:
        self._client = client
        self._tags = tags
        self._unembedded = unembedded
        self._clock = Clock()

    async def store(
        self, records: Sequence[Record], replaced: Mapping[Key, Sequence[Row]] | None = None
    ) -> None:
        """All of them or none, beside the rows that they replace.

        AutoMem keeps one POST whole or not at all. When a later one of several fails, the earlier
        ones are taken back; where that fails too, the error says how many stayed.
        """
        kept = 0
        try:
            async for count in self.put(records, replaced):
                kept += count
        except MemoryServiceError as error:
            if kept:
                await self._take_back(records[:kept], len(records), error)
            raise

    async def put(
        self, records: Sequence[Record], replaced: Mapping[Key, Sequence[Row]] | None = None
    ) -> AsyncIterator[int]:
        """Store the records beside the rows that they replace; yields how many a call stored."""
        there = replaced or {}
        bodies = [
            to_automem(one, self._tags, self._clock, there.get(key_of(one), ())) for one in records
        ]
        stored = 0
        for part in _parts(bodies):
            await self._post(records[stored : stored + len(part)], [*chain(*part)])
            stored += len(part)
            yield len(part)

    async def _post(self, records: Sequence[Record], body: list[dict[str, Any]]) -> None:
        """Store what one call can carry; a call that failed is repeated if it stored nothing.

        Raises `ConnectionLost` where nobody can tell whether it did. The batch route embeds before
        it answers, which the route for one memory does not.
        """
        answer: dict[str, Any] | None = None
        sent = False
        try:
            async for attempt in self._client.attempts():
                with attempt:
                    if attempt.num > 1 and await self._arrived(records):
                        break
                    try:
                        answer = await self._client.once(
                            "POST", "/memory/batch", body={"memories": body}
                        )
                    except MemoryServiceError as error:
                        sent = sent or was_sent(error)
                        raise
        except (DriverTimeout, DriverUnavailable) as error:
            if not sent or not await self._arrived_after(records, error):
                raise
        if answer is not None and answer.get("stored") != len(body):
            raise PartlyStored(reason="AutoMem did not store all that it was given")
        vectors = answer.get("qdrant") if answer is not None else None
        if not isinstance(vectors, str) or vectors != f"stored ({len(body)})":
            for record in records:
                self._unembedded.add(record, self._tags.of(record))

    async def _arrived(self, records: Sequence[Record]) -> bool:
        """Whether a POST whose answer was lost has stored its records.

        One POST is one write in AutoMem, so that the first and the last record tell.
        """
        ends = {_version(record) for record in (records[0], records[-1])}
        rows = await rows_of(
            lambda path, query: self._client.once("GET", path, query),
            self._tags,
            sorted(key for key, _ in ends),
        )
        return ends <= {_version(row.record) for row in rows}

    async def _arrived_after(self, records: Sequence[Record], error: MemoryServiceError) -> bool:
        try:
            return await self._arrived(records)
        except MemoryServiceError:
            raise_uncertain(error)

    async def _take_back(
        self, records: Sequence[Record], total: int, error: MemoryServiceError
    ) -> None:
        try:
            versions = {_version(record) for record in records}
            rows = await self.find(map(record_id, records))
            await self.delete(row for row in rows if _version(row.record) in versions)
        except MemoryServiceError:
            _log.error("automem_batch_partly_stored", stored=len(records), of=total)
            raise PartlyStored(
                f"The first {len(records)} of {total} records may be stored", reason=error.reason
            ) from error

    async def find(self, record_ids: Iterable[str]) -> list[Row]:
        """Every memory of AutoMem that carries one of the records; several after a repeat."""
        return await rows_of(self._client.get, self._tags, record_ids)

    async def delete(self, rows: Iterable[Row]) -> list[Row]:
        """Delete these memories; those that were deleted by this call.

        Older versions go first, then what is in the place of one: none of them comes to light when
        a later call fails.
        """

        async def one(row: Row) -> Row | None:
            gone = await self._client.delete(f"/memory/{row.automem_id}")
            self._unembedded.remove(row.record)
            return row if gone else None

        rows = list(rows)
        steps = [outdated(rows), displaced(rows)]
        early = {row.automem_id for step in steps for row in step}
        steps.append([row for row in rows if row.automem_id not in early])
        tried = [row for step in steps for row in await some_at_once(one, step)]
        return [row for row in tried if row is not None]


def _version(record: Record) -> tuple[str, datetime]:
    return record_id(record), record.updated_at


async def some_at_once(call: Callable[[S], Awaitable[T]], over: Iterable[S]) -> list[T]:
    """The answers of a call for each; the first error is raised when all have ended."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def answer(one: S) -> T:
        async with free:
            return await call(one)

    answers: list[T] = []
    for each in await asyncio.gather(*map(answer, over), return_exceptions=True):
        if isinstance(each, BaseException):
            raise each
        answers.append(each)
    return answers


def _parts(bodies: list[list[dict[str, Any]]]) -> Iterator[list[list[dict[str, Any]]]]:
    """The bodies, each record's together, in as few calls as AutoMem takes them in."""
    part: list[list[dict[str, Any]]] = []
    count = size = 0
    for some in bodies:
        length = sum(len(json.dumps(one, ensure_ascii=False).encode()) for one in some)
        if part and (count + len(some) > BATCH or size + length > _BODY_BYTES):
            yield part
            part, count, size = [], 0, 0
        part.append(some)
        count, size = count + len(some), size + length
    yield part
