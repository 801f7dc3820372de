"""`python -m benchmarks.filtered`: recalls with a filter against the same without one.

A user with 5,000 memories, each with metadata and tags; every question is new, so that it is
embedded and ranked. One service keeps the user in its memory, and one asks PostgreSQL. Recalls with
a filter and without one take turns; a ratio is of the medians of a round. "After a store" each of
these recalls comes right after a store of the user. With `--against CHECKOUT` plain recalls take
turns with those of a service of that checkout, an earlier one, on a database of its own.
"""

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.client import Client, post
from benchmarks.data import LARGE_USER, load
from benchmarks.service import Service, database_url

_MEMORIES, _BATCH = 5_000, 500
_WARM, _ROUNDS, _EACH = 50, 5, 30
_WRITES = 10
"""Recalls of a round that come after a store each, and as many with a filter."""

_FILTERS: dict[str, dict[str, Any]] = {
    "a text that a fifth has": {"metadata": {"project": "project 3"}},
    "a number from 7 on": {"metadata": {"priority": {"gte": 7}}},
    "one of three, and another is not": {
        "metadata": {"state": {"in": ["open", "late", "lost"]}, "project": {"ne": "project 1"}}
    },
    "a list that has it": {"metadata": {"labels": "label 2"}},
    "a number that every memory has another of": {"metadata": {"n": {"lt": 2_500}}},
    "a tag": {"tags": {"any": ["tag 1"]}},
}


def _metadata(n: int) -> dict[str, Any]:
    return {
        "n": n,
        "project": f"project {n % 5}",
        "priority": n % 10,
        "state": ("open", "late", "done", "lost")[n % 4],
        "labels": [f"label {n % 3}", f"label {n % 7}"],
        "source": {"kind": "chat", "url": f"https://chat.example/{n}"},
        "note": "as it was said then",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filtered", description=__doc__)
    parser.add_argument("--texts", type=Path, help="a file of texts, in place of made ones")
    parser.add_argument("--against", type=Path, help="a checkout to compare plain recalls with")
    given = parser.parse_args()
    data = load(given.texts, 0, 0, _MEMORIES)
    queries = data.queries()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="filtered-"))) / "data"
        clients = {"kept": _entered(stack, Service(folder, "fused"))}
        url = database_url(folder, "memory")
        by_sql = Service(folder, "fused", DATABASE_URL=url, MEMORY_RECALL_RESIDENT_MB="0")
        clients["by SQL"] = _entered(stack, by_sql)
        stored = [
            {
                "user_id": LARGE_USER,
                "content": text,
                "tags": [f"tag {n % 4}"],
                "metadata": _metadata(n),
            }
            for n, (_, text) in enumerate(data.memories)
        ]
        batches = [stored[n : n + _BATCH] for n in range(0, len(stored), _BATCH)]
        bodies = [post("/v1/memories/batch", {"memories": batch}) for batch in batches]
        clients["kept"].drive(bodies, 1, 201)
        if given.against is not None:
            earlier = Service(folder.with_name("earlier"), "fused", given.against.resolve())
            against = _entered(stack, earlier)
            against.drive(bodies, 1, 201)
            _compare(clients["kept"], against, queries)
        print("| recall | filter | without, ms | with, ms | ratio |")
        print("|---|---|---|---|---|")
        for way, client in clients.items():
            client.drive(_recalls(queries, _WARM), 1)
            for name, wanted in _FILTERS.items():
                client.drive(_recalls(queries, 2, wanted), 1)
                _tell(way, name, [_round(client, queries, wanted) for _ in range(_ROUNDS)])
                if way == "kept":
                    rounds = [_after_stores(client, queries, wanted) for _ in range(_ROUNDS)]
                    _tell("kept, after a store", name, rounds)


def _tell(way: str, name: str, rounds: list[tuple[float, float]]) -> None:
    without, filtered = (median(column) for column in zip(*rounds, strict=True))
    print(f"| {way} | {name} | {without:.2f} | {filtered:.2f} | {_ratio(rounds)} |", flush=True)


def _ratio(rounds: list[tuple[float, float]]) -> str:
    ratios = [after / before for before, after in rounds]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _compare(now: Client, against: Client, queries: Iterator[str]) -> None:
    """Print plain recalls of this checkout beside those of the earlier one."""
    for client in (against, now):
        client.drive(_recalls(queries, _WARM), 1)
    rounds: list[tuple[float, float]] = []
    for _ in range(2 * _ROUNDS):
        bodies = _recalls(queries, _EACH)
        took = [client.drive(bodies, 1).latencies for client in (against, now)]
        rounds.append((median(took[0]) * 1e3, median(took[1]) * 1e3))
    before, after = (median(column) for column in zip(*rounds, strict=True))
    print(f"plain recall: {before:.2f} ms earlier, {after:.2f} ms now, {_ratio(rounds)}\n")


def _round(client: Client, queries: Iterator[str], wanted: dict[str, Any]) -> tuple[float, float]:
    """The median milliseconds of recalls without the filter, and with it."""
    plain, filtered = _recalls(queries, _EACH), _recalls(queries, _EACH, wanted)
    pairs = [request for pair in zip(plain, filtered, strict=True) for request in pair]
    took = client.drive(pairs, 1).latencies
    return median(took[::2]) * 1e3, median(took[1::2]) * 1e3


def _after_stores(
    client: Client, queries: Iterator[str], wanted: dict[str, Any]
) -> tuple[float, float]:
    """The same, where each recall comes after a store of one memory."""
    took: tuple[list[float], list[float]] = [], []
    for _ in range(_WRITES):
        for each, more in zip(took, (None, wanted), strict=True):
            stored = {"user_id": LARGE_USER, "content": next(queries), "metadata": _metadata(0)}
            client.drive([post("/v1/memories", stored)], 1, 201)
            each += client.drive(_recalls(queries, 1, more), 1).latencies
    return median(took[0]) * 1e3, median(took[1]) * 1e3


def _recalls(
    queries: Iterator[str], count: int, wanted: dict[str, Any] | None = None
) -> list[bytes]:
    more = {} if wanted is None else {"filter": wanted}
    return [
        post("/v1/memories/recall", {"user_id": LARGE_USER, "query": query, **more})
        for query in islice(queries, count)
    ]


def _entered(stack: ExitStack, service: Service) -> Client:
    stack.enter_context(service)
    return stack.enter_context(Client(service.port))


if __name__ == "__main__":
    main()
