"""What is sent to Weaviate: every field is one of these types, and no other can be sent.

Weaviate drops a field that it does not know without a word: a misspelt filter would be a search
over everybody. So no body is written anywhere else.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

from app.embedding import Vector

MOST = 10_000
"""Objects that one search may give (QUERY_MAXIMUM_RESULTS)."""

Level = Literal["CONSISTENCY_LEVEL_ONE", "CONSISTENCY_LEVEL_ALL"]
ID = "_id"
"""Names an object's own id in a filter."""


class Target(TypedDict):
    property: str


class Texts(TypedDict):
    values: list[str]


class Filter(TypedDict, total=False):
    """A condition, or several that must all hold."""

    operator: str
    target: Target
    filters: list["Filter"]
    valueText: str
    valueTextArray: Texts
    valueNumber: float


class Sort(TypedDict):
    path: list[str]
    ascending: bool


class Metadata(TypedDict, total=False):
    uuid: bool
    distance: bool
    vector: bool


class Properties(TypedDict):
    nonRefProperties: list[str]


class OneVector(TypedDict):
    vectorBytes: str
    type: str


class NearVector(TypedDict):
    vectors: list[OneVector]


class Search(TypedDict, total=False):
    collection: str
    limit: int
    uses127Api: bool
    metadata: Metadata
    properties: Properties
    filters: Filter
    sortBy: list[Sort]
    nearVector: NearVector
    after: str


class Values(TypedDict):
    nonRefProperties: dict[str, str | float]


class Object(TypedDict, total=False):
    uuid: str
    collection: str
    properties: Values
    vectorBytes: str


class Batch(TypedDict, total=False):
    objects: list[Object]
    consistencyLevel: Level


class Deletion(TypedDict, total=False):
    collection: str
    filters: Filter
    dryRun: bool
    consistencyLevel: Level


class Count(TypedDict):
    collection: str
    objectsCount: bool
    filters: Filter


@dataclass(frozen=True, slots=True)
class Thing:
    """An object to keep, of a collection; `vector` has shape (dimension,)."""

    collection: str
    uuid: str
    values: Mapping[str, str | float]
    vector: Vector | None = field(default=None, compare=False)


def equal(name: str, value: str) -> Filter:
    """Those whose text is the value."""
    return {"operator": "OPERATOR_EQUAL", "target": {"property": name}, "valueText": value}


def before(name: str, value: str) -> Filter:
    """Those whose text sorts before the value."""
    return {"operator": "OPERATOR_LESS_THAN", "target": {"property": name}, "valueText": value}


def from_on(name: str, value: str) -> Filter:
    """Those whose text is the value, or sorts after it."""
    return {
        "operator": "OPERATOR_GREATER_THAN_EQUAL",
        "target": {"property": name},
        "valueText": value,
    }


def after(name: str, value: str) -> Filter:
    """Those whose text sorts after the value."""
    return {"operator": "OPERATOR_GREATER_THAN", "target": {"property": name}, "valueText": value}


def any_of(name: str, values: Sequence[str]) -> Filter:
    """Those whose text is one of the values, of which there is one at least."""
    if not values:  # Weaviate fails for none, and another version might take it for all
        raise ValueError("no value to look for")
    return {
        "operator": "OPERATOR_CONTAINS_ANY",
        "target": {"property": name},
        "valueTextArray": {"values": list(values)},
    }


def number_is(name: str, value: float) -> Filter:
    """Those whose number is the value."""
    return {"operator": "OPERATOR_EQUAL", "target": {"property": name}, "valueNumber": value}


def above(name: str, value: float) -> Filter:
    """Those whose number is above the value."""
    return {"operator": "OPERATOR_GREATER_THAN", "target": {"property": name}, "valueNumber": value}


def at_least(name: str, value: float) -> Filter:
    """Those whose number is the value or above."""
    return {
        "operator": "OPERATOR_GREATER_THAN_EQUAL",
        "target": {"property": name},
        "valueNumber": value,
    }


def at_most(name: str, value: float) -> Filter:
    """Those whose number is the value or below."""
    return {
        "operator": "OPERATOR_LESS_THAN_EQUAL",
        "target": {"property": name},
        "valueNumber": value,
    }


def every(*filters: Filter) -> Filter:
    """Those that all of the filters, one at least, hold for."""
    return filters[0] if len(filters) == 1 else {"operator": "OPERATOR_AND", "filters": [*filters]}


def search(
    collection: str,
    filters: Filter,
    properties: Sequence[str],
    limit: int,
    *,
    sort: tuple[str, bool] | None = None,
    near: Vector | None = None,
    vectors: bool = False,
) -> Search:
    """Up to `limit` objects that the filter lets through.

    Sorted by a text, upward where the second of the pair is true; or those nearest to a vector of
    shape (dimension,), with their distance: not both. With `vectors` each has its own.
    """
    body: Search = {
        "collection": collection,
        "limit": min(limit, MOST),
        "uses127Api": True,
        "metadata": {"uuid": True, "distance": near is not None, "vector": vectors},
        "properties": {"nonRefProperties": list(properties)},
        "filters": filters,
    }
    if sort is not None:
        body["sortBy"] = [{"path": [sort[0]], "ascending": sort[1]}]
    if near is not None:
        one: OneVector = {"vectorBytes": encoded(near), "type": "VECTOR_TYPE_SINGLE_FP32"}
        body["nearVector"] = {"vectors": [one]}
    return body


def batch(things: Sequence[Thing], level: Level | None) -> Batch:
    """Keep the objects, each in the place of what has its id."""
    body: Batch = {"objects": [_object(thing) for thing in things]}
    if level is not None:
        body["consistencyLevel"] = level
    return body


def deletion(collection: str, filters: Filter, level: Level | None) -> Deletion:
    """Delete what the filter lets through, up to 10,000 at once."""
    body: Deletion = {"collection": collection, "filters": filters, "dryRun": False}
    if level is not None:
        body["consistencyLevel"] = level
    return body


def count(collection: str, filters: Filter) -> Count:
    """How many objects the filter lets through."""
    return {"collection": collection, "objectsCount": True, "filters": filters}


def encoded(vector: Vector) -> str:
    """Numbers as Weaviate takes them: base64 of little-endian float32."""
    return base64.b64encode(vector.astype("<f4").tobytes()).decode()


def _object(thing: Thing) -> Object:
    body: Object = {
        "uuid": thing.uuid,
        "collection": thing.collection,
        "properties": {"nonRefProperties": {**thing.values}},
    }
    if thing.vector is not None:
        body["vectorBytes"] = encoded(thing.vector)
    return body
