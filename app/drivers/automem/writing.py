"""Storing and deleting, also when an answer gets lost on the way."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from app.core.memory.records import Record, record_id
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.errors import was_sent
from app.drivers.automem.mapping import (
    Clock,
    Row,
    Tags,
    from_automem,
    to_automem,
)
from app.drivers.automem.scope import dict_of, listed
from app.drivers.automem.unembedded import Unembedded
from app.errors import (
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PartlyStored,
    raise_uncertain,
)
from app.logs import get_logger

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

    async def keep(self, records: Sequence[Record]) -> None:
        """All of them or none.

        AutoMem keeps one POST whole or not at all. When a later one of several fails, the earlier
        ones are taken back; where that fails too, the error says how many stayed.
        """
        bodies = [to_automem(one, self._tags, self._clock) for one in records]
        kept = 0
        for part in _parts(bodies):
            chosen = records[kept : kept + len(part)]
            try:
                await self._post(chosen, part)
            except MemoryServiceError as error:
                if kept:
                    await self._take_back(records[:kept], len(records), error)
                raise
            kept += len(part)

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
        if answer is not None and answer.get("stored") != len(records):
            raise PartlyStored(reason="AutoMem did not store all that it was given")
        vectors = answer.get("qdrant") if answer is not None else None
        if not isinstance(vectors, str) or vectors != f"stored ({len(records)})":
            for record in records:
                self._unembedded.add(record_id(record), self._tags.of(record))

    async def _arrived(self, records: Sequence[Record]) -> bool:
        """Whether a POST whose answer was lost has stored its records.

        One POST is one write in AutoMem, so that the first and the last record tell.
        """
        ends = {record_id(record) for record in (records[0], records[-1])}
        query = [("tags", self._tags.record(one)) for one in sorted(ends)]
        answer = await self._client.once("GET", "/memory/by-tag", [*query, ("limit", 20)])
        rows = [from_automem(one, dict_of(one).get("id")) for one in listed(answer, "memories")]
        return ends <= {row.record_id for row in rows if row is not None}

    async def _arrived_after(self, records: Sequence[Record], error: MemoryServiceError) -> bool:
        try:
            return await self._arrived(records)
        except MemoryServiceError:
            raise_uncertain(error)

    async def _take_back(
        self, records: Sequence[Record], total: int, error: MemoryServiceError
    ) -> None:
        try:
            for record in records:
                await self.delete(await self.find(record_id(record)))
        except MemoryServiceError:
            _log.error("automem_batch_partly_stored", stored=len(records), of=total)
            raise PartlyStored(
                f"The first {len(records)} of {total} records may be stored", reason=error.reason
            ) from error

    async def find(self, wanted: str) -> list[Row]:
        """Every memory of AutoMem that carries the record of that id; several after a repeat."""
        query: list[tuple[str, str | int]] = [("tags", self._tags.record(wanted)), ("limit", 200)]
        answer = await self._client.get("/memory/by-tag", query)
        rows = [from_automem(one, dict_of(one).get("id")) for one in listed(answer, "memories")]
        return [row for row in rows if row is not None and row.record_id == wanted]

    async def missing(self, records: Sequence[Record]) -> list[Record]:
        """Those that AutoMem does not have, each once."""
        wanted = {record_id(record): record for record in records}
        there = await _some_at_once(self.find, wanted)
        return [record for record, found in zip(wanted.values(), there, strict=True) if not found]

    async def delete(self, rows: Iterable[Row]) -> int:
        """Delete these memories; how many records were deleted by this call."""

        async def one(row: Row) -> str | None:
            gone = await self._client.delete(f"/memory/{row.automem_id}")
            self._unembedded.remove(row.record_id)
            return row.record_id if gone else None

        return len(set(await _some_at_once(one, rows)) - {None})


async def _some_at_once(call: Callable[[S], Awaitable[T]], over: Iterable[S]) -> list[T]:
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


def _parts(bodies: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The bodies in as few calls as AutoMem takes them in."""
    part: list[dict[str, Any]] = []
    size = 0
    for body in bodies:
        length = len(json.dumps(body, ensure_ascii=False).encode())
        if part and (len(part) == BATCH or size + length > _BODY_BYTES):
            yield part
            part, size = [], 0
        part.append(body)
        size += length
    yield part
