"""The collections of the fake, which keep and find objects as Weaviate does."""

import base64
import copy
from typing import Any

import numpy as np

from tests.drivers.weaviate_filters import Admits, Refused, Stored, compiled
from tests.drivers.weaviate_messages import ALL, FP32, REPLIES, result, written

MOST = 10_000

_DEFAULTS: dict[str, Any] = {
    "vectorizer": "text2vec-contextionary",
    "vectorIndexType": "hnsw",
    "shardingConfig": {"desiredCount": 1},
    "properties": [],
}
_INDEX = {"distance": "cosine", "skip": False, "flatSearchCutoff": 40_000, "ef": -1}
_INVERTED = {"bm25": {"b": 0.75, "k1": 1.2}, "cleanupIntervalSeconds": 60}


def full_definition(given: dict[str, Any]) -> dict[str, Any]:
    """The collection as Weaviate shows it: with what was left out."""
    made = {**_DEFAULTS, **copy.deepcopy(given)}
    made["vectorIndexConfig"] = {**_INDEX, **given.get("vectorIndexConfig", {})}
    stopwords = {"preset": "en", "additions": None, "removals": None}
    inverted = given.get("invertedIndexConfig", {})
    stopwords |= inverted.get("stopwords", {})
    made["invertedIndexConfig"] = {**_INVERTED, **inverted, "stopwords": stopwords}
    copying = {"factor": 1, "deletionStrategy": "TimeBasedResolution", "asyncEnabled": False}
    made["replicationConfig"] = {**copying, **given.get("replicationConfig", {})}
    made["multiTenancyConfig"] = {"enabled": False, **given.get("multiTenancyConfig", {})}
    made["properties"] = [full_property(each) for each in made["properties"]]
    return made


def full_property(given: dict[str, Any]) -> dict[str, Any]:
    """A property as Weaviate shows it."""
    is_text = given["dataType"][0] == "text"
    made = {"indexFilterable": True, "indexSearchable": is_text, "indexRangeFilters": False}
    if is_text:
        made["tokenization"] = "word"
    return {**made, **given}


class Collection:
    """One collection: its definition, its objects in the order in which they came, and copies."""

    def __init__(self, definition: dict[str, Any]) -> None:
        self.definition = full_definition(definition)
        self.objects: dict[str, Stored] = {}
        self.unindexed: set[str] = set()
        """Objects whose vectors are not in the index yet."""
        self.behind: dict[str, Stored | None] = {}
        """What the copy that searches ask has not got yet: objects, or None for deleted ones."""
        self.deleted: dict[str, Stored] = {}
        self.dimension: int | None = None

    @property
    def properties(self) -> dict[str, dict[str, Any]]:
        return {each["name"]: each for each in self.definition["properties"]}

    @property
    def is_copied(self) -> bool:
        return int(self.definition["replicationConfig"]["factor"]) > 1

    def admits(self, filters: Any) -> Admits:
        preset = self.definition["invertedIndexConfig"]["stopwords"]["preset"]
        return compiled(filters, self.properties, preset)

    def keep(self, one: Stored, level: int, *, lags: bool) -> None:
        """Keep an object, in the place of what has its id."""
        if lags and self.is_copied and level != ALL:
            self.behind[one.uuid] = one
            return
        self.objects.pop(one.uuid, None)
        self.objects[one.uuid] = one
        self.deleted.pop(one.uuid, None)

    def delete(self, uuid: str, level: int, *, lags: bool) -> None:
        if lags and self.is_copied and level != ALL:
            self.behind[uuid] = None
            return
        self.deleted[uuid] = self.objects.pop(uuid)

    def settle(self) -> None:
        """What is behind, or not indexed yet, is there now."""
        for uuid, one in self.behind.items():
            if one is None:
                self.objects.pop(uuid, None)
            else:
                self.objects[uuid] = one
        self.behind.clear()
        self.unindexed.clear()

    def resurrect(self) -> None:
        """A copy that missed the deletes brings back what they deleted, unless times decide."""
        strategy = self.definition["replicationConfig"]["deletionStrategy"]
        if self.is_copied and strategy != "TimeBasedResolution":
            self.objects |= self.deleted
            self.deleted.clear()

    def vector_of(self, packed: bytes) -> Any:
        """The numbers of an object's vector, which all have the length of the first."""
        if not packed:
            return None
        vector = np.frombuffer(packed, "<f4").astype(np.float32)
        if self.dimension is None:
            self.dimension = len(vector)
        if len(vector) != self.dimension:
            raise Refused(
                f"new node has a vector with length {len(vector)}. Existing nodes have vectors "
                f"with length {self.dimension}"
            )
        return vector

    def search(self, request: Any, *, drops_a_hit: bool) -> dict[str, Any]:
        """The reply to a search, as JSON."""
        near = request.near_vector if request.HasField("near_vector") else None
        if request.limit + request.offset > MOST:
            raise Refused(f"query maximum results exceeded: {request.limit + request.offset}")
        limit = request.limit or 10
        for name in request.properties.non_ref_properties:
            if name not in self.properties:
                raise Refused(f"no such prop with name '{name}' found in class")
        if near is not None and request.sort_by:
            raise Refused("sorting cannot be combined with search")
        if request.after and (near is not None or request.sort_by or request.HasField("filters")):
            raise Refused("after cannot be combined with filter, sort or search")
        found = list(self.objects.values())
        if request.HasField("filters"):
            admits = self.admits(request.filters)
            found = [one for one in found if admits(one)]
        distances: dict[str, float] = {}
        if request.after:
            found = sorted((o for o in found if o.uuid > request.after), key=lambda o: o.uuid)
        elif near is not None:
            found, distances = self._nearest(
                found, near, drops_a_hit=drops_a_hit, filtered=request.HasField("filters")
            )
        for sort in reversed(request.sort_by):
            found.sort(key=lambda o, s=sort: _sorted_by(o, s.path[0]), reverse=not sort.ascending)  # type: ignore[misc]
        some = found[request.offset : request.offset + limit]
        results = [self._result(one, request, distances) for one in some]
        return {**written(REPLIES["Search"]()), "results": results}

    def _nearest(
        self, found: list[Stored], near: Any, *, drops_a_hit: bool, filtered: bool
    ) -> tuple[list[Stored], dict[str, float]]:
        if self.definition["vectorIndexConfig"]["skip"]:
            raise Refused("vector index is skipped for this class")
        assert near.vectors[0].type == FP32
        wanted = np.frombuffer(near.vectors[0].vector_bytes, "<f4").astype(np.float32)
        if self.dimension is not None and len(wanted) != self.dimension:
            raise Refused(f"vector lengths don't match: {self.dimension} vs {len(wanted)}")
        there = [o for o in found if o.vector is not None and o.uuid not in self.unindexed]
        distances = {one.uuid: float(np.float32(1 - one.vector @ wanted)) for one in there}
        there.sort(key=lambda one: distances[one.uuid])
        cutoff = self.definition["vectorIndexConfig"]["flatSearchCutoff"]
        if drops_a_hit and there and (not filtered or len(there) > cutoff):
            there.pop(0)
        return there, distances

    def _result(self, one: Stored, request: Any, distances: dict[str, float]) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        if request.metadata.uuid:
            metadata["id"] = one.uuid
        if request.metadata.distance and one.uuid in distances:
            metadata |= {"distance": distances[one.uuid], "distancePresent": True}
        if request.metadata.vector and one.vector is not None:
            packed = one.vector.astype("<f4").tobytes()
            metadata["vectorBytes"] = base64.b64encode(packed).decode()
        fields: dict[str, Any] = {}
        for name in request.properties.non_ref_properties:
            value = one.values.get(name)
            if isinstance(value, str):
                fields[name] = {"textValue": value}
            elif value is not None:
                fields[name] = {"numberValue": value}
            else:
                fields[name] = {"nullValue": None}
        return result(fields, **metadata)


def _sorted_by(one: Stored, name: str) -> tuple[bool, Any]:
    """Texts are sorted whatever their case."""
    if name == "_id":
        return True, one.uuid
    value = one.values.get(name)
    return value is not None, value.lower() if isinstance(value, str) else value
