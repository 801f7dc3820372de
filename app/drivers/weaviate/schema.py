"""The collections as the service makes them, and whether those that are there are its own."""

from collections.abc import Mapping
from typing import Any, Final, TypedDict

from app.drivers.weaviate.layout import Names

CUTOFF: Final = 100_000
"""Up to so many objects that a filter lets through, a search compares the vector of each."""


class Property(TypedDict, total=False):
    name: str
    dataType: list[str]
    tokenization: str
    indexFilterable: bool
    indexSearchable: bool
    indexRangeFilters: bool


class VectorIndex(TypedDict, total=False):
    distance: str
    skip: bool
    flatSearchCutoff: int
    skipDefaultQuantization: bool


class Stopwords(TypedDict):
    preset: str


class InvertedIndex(TypedDict):
    stopwords: Stopwords


class Replication(TypedDict):
    factor: int
    deletionStrategy: str


class MultiTenancy(TypedDict):
    enabled: bool


Class = TypedDict(
    "Class",
    {
        "class": str,
        "description": str,
        "vectorizer": str,
        "vectorIndexType": str,
        "vectorIndexConfig": VectorIndex,
        "invertedIndexConfig": InvertedIndex,
        "replicationConfig": Replication,
        "multiTenancyConfig": MultiTenancy,
        "properties": list[Property],
    },
)


def _text(name: str, *, filtered: bool = True) -> Property:
    """Compared as a whole, with its case: another tokenization would take values apart."""
    return {
        "name": name,
        "dataType": ["text"],
        "tokenization": "field",
        "indexFilterable": filtered,
        "indexSearchable": False,
    }


def _number(name: str, *, filtered: bool = True) -> Property:
    return {
        "name": name,
        "dataType": ["number"],
        "indexFilterable": filtered,
        "indexSearchable": False,
        "indexRangeFilters": filtered,
    }


_OF_RECORDS: tuple[Property, ...] = (
    *(_text(name) for name in ("owner", "key", "group", "doc", "put", "place", "spot")),
    *(_number(name) for name in ("at", "position", "created", "expires", "gone", "window")),
    _number("windows", filtered=False),
    *(
        _text(name, filtered=False)
        for name in ("kept", "version", "made", "record", "outline", "vectors")
    ),
)
_OF_MARKS: tuple[Property, ...] = (
    *(_text(name) for name in ("kind", "owner", "doc", "put", "name")),
    _text("before", filtered=False),
    *(_number(name) for name in ("seen", "gone")),
)


def classes(names: Names, description: str, replicas: int) -> list[Class]:
    """All of the collections; the first one's description tells what the others are of, too."""
    return [
        _class(names.memories, description, _OF_RECORDS, replicas, vectors=False),
        _class(names.knowledge, "", _OF_RECORDS, replicas, vectors=True),
        _class(names.marks, "", _OF_MARKS, replicas, vectors=False),
    ]


def _class(
    name: str,
    description: str,
    properties: tuple[Property, ...],
    replicas: int,
    *,
    vectors: bool,
) -> Class:
    index: VectorIndex = {"distance": "cosine", "skip": not vectors}
    if vectors:
        index = {**index, "flatSearchCutoff": CUTOFF, "skipDefaultQuantization": True}
    return {
        "class": name,
        "description": description or "Of the memory driver service.",
        "vectorizer": "none",
        "vectorIndexType": "hnsw",
        "vectorIndexConfig": index,
        "invertedIndexConfig": {"stopwords": {"preset": "none"}},
        "replicationConfig": {"factor": replicas, "deletionStrategy": "TimeBasedResolution"},
        "multiTenancyConfig": {"enabled": False},
        "properties": list(properties),
    }


def difference(wanted: Class, there: Mapping[str, Any]) -> str | None:
    """What of a collection that is there is not as the service makes it; None: nothing that counts.

    An operator may change how much is compared exactly, or how many copies there are.
    """
    index = there.get("vectorIndexConfig") or {}
    inverted = there.get("invertedIndexConfig") or {}
    found = {
        "vectorizer": there.get("vectorizer"),
        "distance": index.get("distance"),
        "skip": bool(index.get("skip")),
        "stopwords": (inverted.get("stopwords") or {}).get("preset"),
        "multi-tenancy": bool((there.get("multiTenancyConfig") or {}).get("enabled")),
    }
    ours = {
        "vectorizer": wanted["vectorizer"],
        "distance": wanted["vectorIndexConfig"]["distance"],
        "skip": wanted["vectorIndexConfig"]["skip"],
        "stopwords": "none",
        "multi-tenancy": False,
    }
    for name, value in ours.items():
        if found[name] != value:
            return f"{name} is {found[name]!r}, not {value!r}"
    properties = {each.get("name"): each for each in there.get("properties") or []}
    known = {each["name"] for each in wanted["properties"]}
    for name in properties:
        if name not in known:
            return f"it has a property {name!r}"
    for each in wanted["properties"]:
        own = properties.get(each["name"])
        if own is None:
            return f"it has no property {each['name']!r}"
        for field, value in each.items():
            if (own.get(field) or False) != value:
                return f"{field} of {each['name']!r} is {own.get(field)!r}, not {value!r}"
    return None
