"""`python -m benchmarks.priority`: p95 of a recall while 10,000 memories are loaded, and idle.

On a service and a PostgreSQL of its own. Loads 5,000 memories, asks alone, then again, one recall
at a time with unique queries, for as long as a second client loads 10,000 more in batches of 500.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

from benchmarks.client import Client, post
from benchmarks.data import load, user
from benchmarks.service import Service

_USERS = 50
_FIRST, _LOADED, _BATCH, _ASKED = 5_000, 10_000, 500, 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.priority", description=__doc__)
    parser.add_argument("--texts", type=Path, help="a file of texts, in place of made ones")
    data = load(parser.parse_args().texts)
    texts, queries = data.texts(), data.queries()

    def batches(count: int) -> list[bytes]:
        return [
            post(
                "/v1/memories/batch",
                {
                    "memories": [
                        {"user_id": user(n % _USERS), "content": text}
                        for n, text in enumerate(islice(texts, _BATCH))
                    ]
                },
            )
            for _ in range(count // _BATCH)
        ]

    def recalls() -> list[bytes]:
        return [
            post("/v1/memories/recall", {"user_id": user(n % _USERS), "query": query})
            for n, query in enumerate(islice(queries, _ASKED))
        ]

    with (
        tempfile.TemporaryDirectory(prefix="priority-") as folder,
        Service(Path(folder) / "data", "fused") as service,
        Client(service.port) as asking,
        Client(service.port) as loading,
        ThreadPoolExecutor(1) as thread,
    ):
        loading.drive(batches(_FIRST), 2, 201)
        asking.drive(recalls(), 1)
        idle = asking.drive(recalls(), 1).latencies
        load_of = thread.submit(loading.drive, batches(_LOADED), 2, 201)
        busy: list[float] = []
        while not load_of.done():
            busy += asking.drive(recalls(), 1).latencies
        loaded = load_of.result()
    print(f"{_LOADED:,} memories in {loaded.seconds:.0f} s, {len(busy)} recalls meanwhile")
    print("| recall, one client | p50, ms | p95, ms |\n|---|---|---|")
    for name, taken in (("idle", idle), ("during the load", busy)):
        print(f"| {name} | {median(taken) * 1e3:.1f} | {_p95(taken) * 1e3:.1f} |")
    print(f"p95 during the load over idle: {_p95(busy) / _p95(idle):.2f} (wanted: at most 3)")


def _p95(latencies: list[float]) -> float:
    return quantiles(latencies, n=20)[-1]


if __name__ == "__main__":
    main()
