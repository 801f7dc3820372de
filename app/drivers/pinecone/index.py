"""One index: vectors in and out, by namespaces."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from app.drivers.pinecone import bodies
from app.drivers.pinecone.bodies import Condition, Stored
from app.drivers.pinecone.client import PineconeClient
from app.drivers.pinecone.errors import is_missing
from app.drivers.pinecone.layout import METADATA_BYTES, Names, numbers
from app.embedding import Vector
from app.errors import DriverError
from app.settings import PineconeSettings

ANSWER_BYTES: Final = 3_500_000
"""Of the metadata in an answer, which may have 4 MB."""
_A_MATCH: Final = 200
"""Bytes of a match beside its metadata."""
_AT_ONCE: Final = 8
"""Calls of one caller that are under way together."""

Given = TypeVar("Given")
Made = TypeVar("Made")
Metadata = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Match:
    """What a query found; its metadata is empty unless it was asked for."""

    id: str
    score: float
    metadata: Metadata


class Index:
    """The routes of one index, with typed bodies, and what a head may have of an answer."""

    def __init__(self, settings: PineconeSettings) -> None:
        self.client = PineconeClient(settings)
        self.names = Names(settings.namespace)
        self.dimension = 0
        """Known once it is open."""

    @property
    def room(self) -> int:
        """Bytes of a head's metadata at most: what is longer is in parts."""
        return min(8_000 + 6 * self.dimension, METADATA_BYTES - 1_000)

    @property
    def most(self) -> int:
        """Matches of one query with their metadata."""
        return ANSWER_BYTES // (self.room + _A_MATCH)

    async def upsert(self, namespace: str, vectors: Sequence[Stored]) -> int | None:
        """Keep the vectors, all or none; how far the log goes then, if Pinecone says so."""
        answer = await self.client.post("/vectors/upsert", bodies.upsert(namespace, vectors))
        if answer.body.get("upsertedCount") != len(vectors):
            raise DriverError(reason="Pinecone does not say that it has kept all vectors")
        return answer.lsn

    async def delete(self, namespace: str, ids: Sequence[str]) -> int | None:
        """Delete the vectors; how far the log goes then, None also where nothing was there."""
        lsn: int | None = None
        for some in _pieces(ids, bodies.MOST_DELETED):
            try:
                body = bodies.delete_ids(namespace, some)
                answer = await self.client.post("/vectors/delete", body)
            except DriverError as error:
                if not is_missing(error):
                    raise
            else:
                lsn = answer.lsn
        return lsn

    async def fetch(
        self, namespace: str, ids: Sequence[str], at_most: int = bodies.MOST_IDS
    ) -> dict[str, Metadata]:
        """The metadata of those of the vectors that are there; so many come in one answer."""

        async def some(ids: Sequence[str]) -> dict[str, Metadata]:
            answer = await self.client.get("/vectors/fetch", bodies.fetch(namespace, ids))
            found = answer.body.get("vectors")
            if not isinstance(found, dict):
                raise DriverError(reason="Pinecone's answer has no vectors")
            return {one: _metadata(each) for one, each in found.items() if one in ids}

        parts = await at_once(some, _pieces(ids, at_most))
        return {one: each for part in parts for one, each in part.items()}

    async def query(
        self,
        namespace: str,
        vector: Vector,
        condition: Condition,
        count: int,
        *,
        metadata: bool = True,
    ) -> tuple[list[Match], int | None]:
        """The nearest, best first, and how far the log goes that they show."""
        body = bodies.query(namespace, numbers(vector), count, condition, metadata=metadata)
        answer = await self.client.post("/query", body)
        found = answer.body.get("matches")
        if not isinstance(found, list):
            raise DriverError(reason="Pinecone's answer has no matches")
        matches = [Match(each["id"], float(each["score"]), _metadata(each)) for each in found]
        matches.sort(key=lambda match: match.score, reverse=True)
        return matches, answer.lsn

    async def ids(self, namespace: str, prefix: str) -> AsyncIterator[list[str]]:
        """The ids that begin so, ascending, a page at a time."""
        token: str | None = None
        while True:
            query = bodies.listing(namespace, prefix, token)
            answer = await self.client.get("/vectors/list", query)
            yield [each["id"] for each in answer.body.get("vectors", [])]
            token = _next(answer.body)
            if token is None:
                return

    async def namespaces(self, prefix: str) -> AsyncIterator[str]:
        """The namespaces that begin so, ascending."""
        token: str | None = None
        while True:
            answer = await self.client.get("/namespaces", bodies.namespaces(prefix, token))
            for each in answer.body.get("namespaces", []):
                yield each["name"]
            token = _next(answer.body)
            if token is None:
                return


def _pieces(values: Sequence[str], size: int) -> list[Sequence[str]]:
    return [values[n : n + size] for n in range(0, len(values), size)]


def _metadata(vector: Any) -> Metadata:
    found = vector.get("metadata") if isinstance(vector, dict) else None
    return found if isinstance(found, dict) else {}


def _next(body: Mapping[str, Any]) -> str | None:
    return (body.get("pagination") or {}).get("next") or None


async def at_once(make: Callable[[Given], Awaitable[Made]], values: Sequence[Given]) -> list[Made]:
    """What `make` gives for each, some at the same time; the first failure ends the others."""
    if len(values) == 1:
        return [await make(values[0])]
    free = asyncio.Semaphore(_AT_ONCE)

    async def one(value: Given) -> Made:
        async with free:
            return await make(value)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(value)) for value in values]
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
