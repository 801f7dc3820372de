"""The bodies of requests, built here alone: none has a field that Pinecone does not know.

A namespace is always named: what is left out means another one.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypeAlias, TypedDict

Condition: TypeAlias = Mapping[str, Any]
"""A filter in Pinecone's language; `scope.py` builds it."""

MOST_IDS = 100
"""Ids of one fetch: they are in its URL."""
MOST_DELETED = 1_000
MOST_UPSERTED = 1_000
MOST_BYTES = 1_900_000
"""Of the vectors of one upsert, whose body may have 2 MB."""
MOST_MATCHES = 10_000
MOST_LISTED = 100


class Stored(TypedDict):
    """One vector of Pinecone's, with all that it keeps of it."""

    id: str
    values: list[float]
    metadata: dict[str, Any]


class Upsert(TypedDict):
    vectors: list[Stored]
    namespace: str


class Query(TypedDict):
    vector: list[float]
    topK: int
    namespace: str
    filter: NotRequired[Condition]
    includeValues: bool
    includeMetadata: bool


class DeleteIds(TypedDict):
    ids: list[str]
    namespace: str


def upsert(namespace: str, vectors: Sequence[Stored]) -> Upsert:
    """`POST /vectors/upsert`: each replaces what is under its id."""
    return {"vectors": [*vectors], "namespace": namespace}


def query(
    namespace: str,
    vector: list[float],
    count: int,
    condition: Condition,
    *,
    metadata: bool,
) -> Query:
    """`POST /query`: the nearest `count` that the condition, which is never empty, lets through."""
    if not condition:
        raise ValueError("an empty condition lets everything through")
    return {
        "vector": vector,
        "topK": count,
        "namespace": namespace,
        "filter": condition,
        "includeValues": False,
        "includeMetadata": metadata,
    }


def delete_ids(namespace: str, ids: Sequence[str]) -> DeleteIds:
    """`POST /vectors/delete`, of ids alone: beside a filter Pinecone passes over them."""
    return {"ids": [*ids], "namespace": namespace}


def fetch(namespace: str, ids: Sequence[str]) -> list[tuple[str, str]]:
    """The query of `GET /vectors/fetch`."""
    return [*(("ids", each) for each in ids), ("namespace", namespace)]


def listing(namespace: str, prefix: str, token: str | None) -> list[tuple[str, str]]:
    """The query of `GET /vectors/list`: ids that begin so, ascending, from where a page ended."""
    return [
        ("prefix", prefix),
        ("limit", str(MOST_LISTED)),
        *_from(token),
        ("namespace", namespace),
    ]


def namespaces(prefix: str, token: str | None, count: int = MOST_LISTED) -> list[tuple[str, str]]:
    """The query of `GET /namespaces`."""
    return [("prefix", prefix), ("limit", str(count)), *_from(token)]


def _from(token: str | None) -> list[tuple[str, str]]:
    return [] if token is None else [("paginationToken", token)]
