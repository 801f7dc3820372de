"""The collections of one prefix: made when they are new, else checked; what is done with them."""

import asyncio
import base64
import json
import re
from collections.abc import Iterable, Sequence
from secrets import token_hex
from time import monotonic
from typing import Any, Final

import numpy as np

from app.drivers.weaviate import bodies
from app.drivers.weaviate.answers import Row, count_in, deleted_in, refused_in, rows_in
from app.drivers.weaviate.bodies import Filter, Level, Thing
from app.drivers.weaviate.client import WeaviateClient
from app.drivers.weaviate.errors import ObjectsRefused, kind_of
from app.drivers.weaviate.layout import LAYOUT, Names
from app.drivers.weaviate.schema import Class, classes, difference
from app.embedding import AGREEMENT, SAMPLE, Embedder, Vector
from app.errors import (
    ConfigurationError,
    DatabaseChanged,
    DriverError,
    DriverUnavailable,
    NotPermitted,
)
from app.ranking.words import VERSION
from app.settings import WeaviateSettings
from app.single_flight import SingleFlight

OLDEST: Final = (1, 38, 10)
"""Older servers take a batch on a read-only shard for stored, but for one object."""

_AT_ONCE = 500
_BYTES_AT_ONCE = 8_000_000
"""Objects, and their bytes, about, that are sent in one call."""
_IDS_AT_ONCE = 1_000
_CHECKED_SECONDS = 5.0
"""For so long the collections are taken to be as they were when they were looked at."""


class Database:
    """One prefix's collections, whose records are of one model and have words of one language."""

    def __init__(self, settings: WeaviateSettings, embedder: Embedder, language: str) -> None:
        self.names = Names(settings.prefix)
        self.client = WeaviateClient(settings)
        self.language = language
        self.copies = 1
        """How many of each record Weaviate keeps."""
        self.resurrects = False
        """Whether one of several copies may bring back what was deleted from the others."""
        self._settings = settings
        self._embedder = embedder
        self._identity: str | None = None
        self._checked = 0.0
        """When the collections were last looked at, by the monotonic clock."""
        self._opening = asyncio.Lock()
        self._looks: SingleFlight[None] = SingleFlight()

    @property
    def identity(self) -> frozenset[str] | None:
        """Which one it is, by whatever way it is reached; None before it was opened."""
        return None if self._identity is None else frozenset({f"weaviate/{self._identity}"})

    async def open(self) -> None:
        """Make or check the collections.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        async with self._opening:
            if self._identity is None:
                await self._embedder.open()
                sample = (await self._embedder.embed([SAMPLE]))[0]
                await self._check_server()
                self._identity = await self._made(sample)
                self._checked = monotonic()

    async def close(self) -> None:
        """Disconnect."""
        self._identity = None
        await self.client.close()

    async def search(
        self,
        collection: str,
        filters: Filter,
        properties: Sequence[str],
        limit: int,
        *,
        sort: tuple[str, bool] | None = None,
        near: Vector | None = None,
        vectors: bool = False,
    ) -> list[Row]:
        """As `bodies.search`."""
        body = bodies.search(
            collection, filters, properties, limit, sort=sort, near=near, vectors=vectors
        )
        return rows_in(await self._call("Search", body))

    async def by_ids(
        self, collection: str, ids: Sequence[str], properties: Sequence[str]
    ) -> list[Row]:
        """The objects of these ids that are there, in no order."""
        found: list[Row] = []
        for some in _cut(ids, _IDS_AT_ONCE):
            found += await self.search(
                collection, bodies.any_of(bodies.ID, some), properties, len(some)
            )
        return found

    async def count(self, collection: str, filters: Filter) -> int:
        """How many objects the filter lets through."""
        return count_in(await self._call("Aggregate", bodies.count(collection, filters)))

    async def keep(self, things: Sequence[Thing]) -> None:
        """Keep one of the `pieces` of objects, each in the place of what has its id.

        After an error some of them may be kept; `errors.did_nothing` tells where none is.
        """
        await self._look_again()
        refused = refused_in(await self._call("BatchObjects", bodies.batch(things, self._level)))
        for said in refused.values():
            reason = f"Weaviate did not keep {len(refused)} of {len(things)} objects"
            raise kind_of(said)(reason=reason) from ObjectsRefused()

    async def delete(self, collection: str, filters: Filter) -> int:
        """Delete all objects that the filter lets through; how many there were."""
        total = 0
        while True:
            body = bodies.deletion(collection, filters, self._level)
            done = deleted_in(await self._call("BatchDelete", body))
            total += done.successful
            if done.failed or (done.matches and not done.successful):
                # So it tells, in the place of why, that a shard is read-only.
                kind = DriverError if total else NotPermitted
                raise kind(reason="Weaviate did not delete all that it was told to")
            if done.matches <= done.successful:  # else there are more than it deletes at once
                return total

    async def delete_ids(self, collection: str, ids: Sequence[str]) -> None:
        """Delete the objects of these ids."""
        for some in _cut(ids, _IDS_AT_ONCE):
            await self.delete(collection, bodies.any_of(bodies.ID, some))

    async def check(self) -> None:
        """Look whether the collections are those that were opened. Raises `DatabaseChanged`.

        Callers that come at the same time share one look.
        """
        await self._looks.join("collections", self._look)

    async def _look(self) -> None:
        wanted = classes(self.names, "", self._settings.replicas)
        there = await asyncio.gather(
            *(self.client.get(f"/v1/schema/{each['class']}", probe=True) for each in wanted)
        )
        same = all(
            found is not None and difference(each, found) is None
            for each, found in zip(wanted, there, strict=True)
        )
        known = _about(there[0]) if same else None
        if known is None or known["id"] != self._identity:
            self._identity = None
            raise DatabaseChanged(reason="the collections are others, or gone")
        self._checked = monotonic()

    @property
    def _level(self) -> Level | None:
        """A search asks one copy of each record: so a write has to reach all of them."""
        return "CONSISTENCY_LEVEL_ALL" if self.copies > 1 else None

    async def _call(self, method: str, body: Any) -> dict[str, Any]:
        if self._identity is None:
            await self.open()
        try:
            return await self.client.call(method, body)
        except DatabaseChanged:
            self._identity = None
            raise

    async def _look_again(self) -> None:
        """See that the collections are there: Weaviate would make one of whatever is written."""
        if self._identity is None:
            await self.open()
        elif monotonic() - self._checked > _CHECKED_SECONDS:
            await self.check()

    async def _check_server(self) -> None:
        """Refuse a server that is too old, or none."""
        about = await self.client.get("/v1/meta")
        said = about.get("version") if isinstance(about, dict) else None
        version = re.match(r"(\d+)\.(\d+)\.(\d+)", str(said))
        if version is None:
            raise ConfigurationError(f"{self._settings.called('url')}: that is no Weaviate")
        if tuple(map(int, version.groups())) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise ConfigurationError(
                f"{self._settings.called('url')}: that Weaviate is {version.group()}; the service "
                f"needs {oldest} or newer"
            )

    async def _made(self, sample: Vector) -> str:
        """The identity of the collections, which are there, and ours."""
        ours = self._embedder
        about = {
            "layout": LAYOUT,
            "model": ours.name,
            "dimension": ours.dimension,
            "language": self.language,
            "words": VERSION,
            "id": token_hex(16),
            "sample": base64.b64encode(sample.astype("<f4").tobytes()).decode(),
        }
        known: dict[str, Any] | None = None
        for wanted in classes(self.names, json.dumps(about), self._settings.replicas):
            there = await self._there(wanted)
            if known is None:
                known = self._known(there)
                self._check_model(known, sample)
                self._check_words(known)
                copying = there.get("replicationConfig") or {}
                self.copies = int(copying.get("factor") or 1)
                resolved = copying.get("deletionStrategy") == "TimeBasedResolution"
                self.resurrects = self.copies > 1 and not resolved
        if known is None:
            raise AssertionError("there is a collection")
        return str(known["id"])

    async def _there(self, wanted: Class) -> dict[str, Any]:
        """The collection as it is; it is made where it is not there."""
        path = f"/v1/schema/{wanted['class']}"
        there = await self.client.get(path)
        if there is None:
            made = await self.client.post("/v1/schema", wanted)
            there = await self.client.get(path)
            if there is None and not made:  # else another service was quicker
                raise ConfigurationError(
                    f"{self._settings.called('replicas')}: Weaviate makes no collection with "
                    f"{self._settings.replicas} copies"
                )
        if not isinstance(there, dict):
            raise DriverUnavailable(reason=f"Weaviate makes no collection {wanted['class']}")
        wrong = difference(wanted, there)
        if wrong is not None:
            raise ConfigurationError(
                f"{self._settings.called('prefix')}: the collection {wanted['class']} is not the "
                f"service's, as {wrong}: choose another, or delete the collection"
            )
        return there

    def _known(self, there: dict[str, Any]) -> dict[str, Any]:
        known = _about(there)
        if known is None or known.get("layout") != LAYOUT:
            raise ConfigurationError(
                f"{self._settings.called('prefix')}: the collection {there.get('class')} was made "
                "by somebody else, or by another version of the service: choose another"
            )
        return known

    def _check_model(self, known: dict[str, Any], sample: Vector) -> None:
        """Refuse a model other than the one that the records were embedded with.

        It is known by its vector of one sentence, whatever it is called.
        """
        ours = self._embedder
        same = known["dimension"] == ours.dimension
        if same:
            theirs = np.frombuffer(base64.b64decode(known["sample"]), "<f4")
            same = float(theirs @ sample) >= AGREEMENT
        if not same:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: {ours.name!r} ({ours.dimension} dimensions) is not the "
                f"model of these collections' vectors ({known['model']}, {known['dimension']} "
                f"dimensions): set it back, or choose another {self._settings.called('prefix')}"
            )

    def _check_words(self, known: dict[str, Any]) -> None:
        """Refuse words of another language or version."""
        if (known["language"], known["words"]) != (self.language, VERSION):
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are "
                f"{known['language']}, version {known['words']}, not {self.language}, version "
                f"{VERSION}: set it back, or export the records into another "
                f"{self._settings.called('prefix')}"
            )


def _about(there: dict[str, Any]) -> dict[str, Any] | None:
    """What the service has written of itself; None where somebody else has made the collection."""
    try:
        known = json.loads(there.get("description") or "")
    except ValueError:
        return None
    names = {"layout", "model", "dimension", "language", "words", "id", "sample"}
    return known if isinstance(known, dict) and names <= known.keys() else None


def _cut(values: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (values[n : n + size] for n in range(0, len(values), size))


def pieces(things: Sequence[Thing]) -> Iterable[list[Thing]]:
    """The objects in their order, as many at once as one call takes."""
    some: list[Thing] = []
    size = 0
    for thing in things:
        own = sum(len(value) for value in thing.values.values() if isinstance(value, str))
        own += 0 if thing.vector is None else 6 * len(thing.vector)
        if some and (len(some) == _AT_ONCE or size + own > _BYTES_AT_ONCE):
            yield some
            some, size = [], 0
        some.append(thing)
        size += own
    if some:
        yield some
