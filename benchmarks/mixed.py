"""Requests as agents send them: stores and recalls of every length, by vector and by words."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from benchmarks.client import post


def stores(users: Iterator[str], texts: Iterator[str], count: int) -> list[bytes]:
    """`count` requests that store the next texts for the next users."""
    return [
        post("/v1/memories", {"user_id": whose, "content": text})
        for whose, text in zip(islice(users, count), texts, strict=False)
    ]


def recalls(
    users: Iterator[str], queries: Iterator[str], texts: Iterator[str], count: int
) -> list[bytes]:
    """`count` recalls: a tenth of them asks with a whole text or many, a seventh by words alone."""
    bodies: list[dict[str, Any]] = []
    for n, whose in enumerate(islice(users, count)):
        query = next(queries)
        if n % 10 == 0:
            query = (next(texts) * (1 + n % 12))[:8_192]
        bodies.append({"user_id": whose, "query": query, "use_vector": n % 7 != 0})
    return [post("/v1/memories/recall", body) for body in bodies]


def mixed(
    users: Iterator[str], queries: Iterator[str], texts: Iterator[str], count: int
) -> list[bytes]:
    """`count` requests, four recalls to one store, in turns: 200 or 201."""
    stored = stores(users, texts, count // 5)
    recalled = iter(recalls(users, queries, texts, count - count // 5))
    turns = [[store, *islice(recalled, 4)] for store in stored]
    return [request for turn in turns for request in turn]
