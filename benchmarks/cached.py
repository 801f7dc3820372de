"""`python -m benchmarks.cached`: recalls asked again, uncached, cached in process and in Redis.

Three services on one PostgreSQL: 50 users with 100 memories each, and 50 questions asked over and
over, so that every service has their vectors; in a round each service is measured in turn. Then
questions that were never asked, which tell what a miss costs. Without `--redis` it starts the Redis
that the extra `dev` brings.
"""

import argparse
import tempfile
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from statistics import median

from benchmarks.client import Client, post
from benchmarks.data import load, user
from benchmarks.service import Service, database_url

_USERS, _EACH, _BATCH = 50, 100, 500
_ROUNDS, _ALONE, _BUSY, _IN_FLIGHT = 5, 200, 1_000, 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cached", description=__doc__)
    parser.add_argument("--texts", type=Path, help="a file of texts, in place of made ones")
    parser.add_argument("--redis", metavar="URL", help="a Redis that nobody else uses")
    arguments = parser.parse_args()
    data = load(arguments.texts, _USERS, _EACH, 0)
    queries = data.queries()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cached-"))) / "data"
        url = arguments.redis
        if url is None:
            from tests.redis_server import running

            url = stack.enter_context(running()).url
        plain = Service(folder, "fused")
        clients = {"uncached": _entered(stack, plain)}
        driver = {
            "MEMORY_DRIVER": "main",
            "MEMORY_DRIVERS__MAIN__TYPE": "cached",
            "MEMORY_DRIVERS__MAIN__INNER": "pgvector",
            "DATABASE_URL": database_url(folder, "memory"),
        }
        clients["in process"] = _entered(stack, Service(folder, "fused", **driver))
        clients["Redis"] = _entered(stack, Service(folder, "fused", MEMORY_CACHE_URL=url, **driver))
        stored = [{"user_id": whose, "content": text} for whose, text in data.memories]
        batches = [stored[n : n + _BATCH] for n in range(0, len(stored), _BATCH)]
        bodies = [post("/v1/memories/batch", {"memories": batch}) for batch in batches]
        clients["uncached"].drive(bodies, 1, 201)

        def recalls(count: int) -> list[bytes]:
            asked = zip(cycle(map(user, range(_USERS))), islice(queries, count), strict=False)
            return [
                post("/v1/memories/recall", {"user_id": whose, "query": query})
                for whose, query in asked
            ]

        again = recalls(50)
        results: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        for client in clients.values():
            for _ in range(4):
                client.drive(again, _IN_FLIGHT)
        for asked in ("asked again", "new"):
            for _ in range(_ROUNDS):
                for name, client in clients.items():
                    fresh = asked == "new"
                    alone = recalls(_ALONE) if fresh else list(islice(cycle(again), _ALONE))
                    busy = recalls(_BUSY // 4) if fresh else list(islice(cycle(again), _BUSY))
                    took, reached = results.setdefault((name, asked), ([], []))
                    took.append(median(client.drive(alone, 1).latencies) * 1e3)
                    reached.append(client.drive(busy, _IN_FLIGHT).per_second)
    print("| recall | questions | one client, median ms | 16 in flight, requests/s |")
    print("|---|---|---|---|")
    for (name, asked), (took, reached) in results.items():
        print(
            f"| {name} | {asked} | {median(took):.2f} ({min(took):.2f} to {max(took):.2f})"
            f" | {median(reached):,.0f} ({min(reached):,.0f} to {max(reached):,.0f}) |"
        )


def _entered(stack: ExitStack, service: Service) -> Client:
    stack.enter_context(service)
    return stack.enter_context(Client(service.port))


if __name__ == "__main__":
    main()
