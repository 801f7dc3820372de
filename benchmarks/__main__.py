"""`make bench`: what the service reaches over HTTP, next to what the machine can do in that moment.

Each figure is taken in rounds; in a round the raw pipeline (raw.py) is measured right before the
service. 25,000 memories: 200 users with 100 each, one with 5,000. In minutes, not hours.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import uvloop

from benchmarks import mixed
from benchmarks.client import Client, Driven, post
from benchmarks.data import LARGE_USER, USERS, Data, load, user
from benchmarks.raw import Encoder, Raw, fastest_encoder
from benchmarks.service import Service
from benchmarks.table import Figure, render

_ROUNDS = 5
_IN_FLIGHT = 16
_MIXED = 10_000
_BATCH = 500

_RANKINGS = ("fused", "vector")
_WANTED: dict[str, dict[str, float]] = {
    "alone": {"vector": 1.35, "fused": 1.5},
    "sixteen": {"vector": 0.85, "fused": 0.85},
    "large": {"vector": 1.5, "fused": 1.5},
    "repeated": {"vector": 0.17, "fused": 0.17},
}


class _Bench:
    """One run: the data, the raw pipeline's encoder, and what the client cost."""

    def __init__(self, data: Data, encoder: Encoder, runner: asyncio.Runner) -> None:
        self._data = data
        self._encoder = encoder
        self._run = runner.run
        self._queries = data.queries()
        self._texts = data.texts()
        self._users = cycle(user(n) for n in range(USERS))
        self.client_shares: list[float] = []
        """Of one core, in each run of sixteen in flight."""

    def measure(self, data_dir: Path) -> list[Figure]:
        """Every figure, in the order of the table."""
        by_ranking: list[list[Figure]] = []
        starts = []
        for ranking in _RANKINGS:
            with Service(data_dir, ranking) as service, Client(service.port) as client:
                starts.append(service.start_seconds)
                raw = self._run(Raw.open(self._encoder, service.server))
                if ranking == "fused":
                    bulk = self._bulk(service, client, raw)
                by_ranking.append(self._recalls(client, raw, ranking))
                if ranking == "fused":
                    store = self._store(client, raw)
                self._run(raw.close())
        with Service(data_dir, "fused") as service, Client(service.port) as client:
            starts.append(service.start_seconds)
            requests = mixed.mixed(self._users, self._queries, self._texts, _MIXED)
            self._drive(client, requests, _IN_FLIGHT, (200, 201))
            megabytes = service.megabytes()
        return [
            *(figure for pair in zip(*by_ranking, strict=True) for figure in pair),
            store,
            bulk,
            Figure("start to ready, model cached", "s", starts, 2.5, at_most=True),
            Figure(
                "with PostgreSQL, after 10,000 mixed requests", "MB", [megabytes], 450, at_most=True
            ),
        ]

    def _bulk(self, service: Service, client: Client, raw: Raw) -> Figure:
        """Load everything in slices; of each, the raw pipeline embeds as much as takes seconds."""
        measured, limits = [], []
        memories = self._data.memories
        size = -(-len(memories) // _ROUNDS)
        for start in range(0, len(memories), size):
            part = memories[start : start + size]
            sample = [text for _, text in part[: 2 * _BATCH]]
            started = perf_counter()
            self._encoder.encode_all(sample)
            limits.append(len(sample) / (perf_counter() - started))
            batches: list[dict[str, Any]] = [
                {"memories": [{"user_id": u, "content": t} for u, t in part[n : n + _BATCH]]}
                for n in range(0, len(part), _BATCH)
            ]
            requests = [post("/v1/memories/batch", batch) for batch in batches]
            measured.append(len(part) / self._drive(client, requests, 1, 201).seconds)
        self._run(raw.adopt(service.server))
        return Figure("bulk load by /batch, over raw embedding", "/s", measured, 0.85, limits)

    def _recalls(self, client: Client, raw: Raw, ranking: str) -> list[Figure]:
        def recalls(count: int, whose: Iterator[str]) -> list[tuple[str, str]]:
            return list(zip(islice(whose, count), self._queries, strict=False))

        def http(asked: Sequence[tuple[str, str]], in_flight: int) -> Driven:
            requests = [
                post("/v1/memories/recall", {"user_id": whose, "query": query})
                for whose, query in asked
            ]
            return self._drive(client, requests, in_flight, 200)

        large = cycle([LARGE_USER])
        for whose in (self._users, large):
            http(recalls(100, whose), _IN_FLIGHT)
            self._raw(raw.recall, recalls(100, whose), _IN_FLIGHT)
        alone, alone_raw, sixteen, sixteen_raw, big, big_raw = ([] for _ in range(6))
        for _ in range(_ROUNDS):
            alone_raw.append(self._raw(raw.recall, recalls(150, self._users), 1)[1] * 1e3)
            alone.append(median(http(recalls(150, self._users), 1).latencies) * 1e3)
            sixteen_raw.append(self._raw(raw.recall, recalls(500, self._users), _IN_FLIGHT)[0])
            sixteen.append(http(recalls(500, self._users), _IN_FLIGHT).per_second)
            big_raw.append(self._raw(raw.recall, recalls(250, large), _IN_FLIGHT)[0])
            big.append(http(recalls(250, large), _IN_FLIGHT).per_second)
        same = [(user(3), next(self._queries))]
        http(same * 100, _IN_FLIGHT)
        repeated, repeated_raw = [], []
        for _ in range(_ROUNDS):
            repeated_raw.append(self._raw(raw.repeat, same * 3_000, _IN_FLIGHT)[0])
            repeated.append(http(same * 1_500, _IN_FLIGHT).per_second)
        wanted = {name: limits[ranking] for name, limits in _WANTED.items()}
        return [
            Figure(
                "recall, one client, p50", "ms", alone, wanted["alone"], alone_raw, True, ranking
            ),
            Figure(
                "recall, 16 in flight",
                "/s",
                sixteen,
                wanted["sixteen"],
                sixteen_raw,
                False,
                ranking,
            ),
            Figure(
                "recall of a user with 5,000, 16",
                "/s",
                big,
                wanted["large"],
                big_raw,
                False,
                ranking,
            ),
            Figure(
                "repeated query, 16, over SQL alone",
                "/s",
                repeated,
                wanted["repeated"],
                repeated_raw,
                False,
                ranking,
            ),
        ]

    def _store(self, client: Client, raw: Raw) -> Figure:
        measured, limits = [], []
        for _ in range(_ROUNDS):
            stored = list(zip(islice(self._users, 400), self._texts, strict=False))
            limits.append(self._raw(raw.store, stored, _IN_FLIGHT)[0])
            measured.append(self._drive(client, self._stores(400), _IN_FLIGHT, 201).per_second)
        return Figure("store, 16 in flight", "/s", measured, 0.7, limits)

    def _stores(self, count: int) -> list[bytes]:
        return mixed.stores(self._users, self._texts, count)

    def _drive(
        self,
        client: Client,
        requests: Sequence[bytes],
        in_flight: int,
        status: int | tuple[int, ...],
    ) -> Driven:
        driven = client.drive(requests, in_flight, status)
        if in_flight > 1:
            self.client_shares.append(driven.cpu_seconds / driven.seconds)
        return driven

    def _raw(
        self,
        work: Callable[[str, str], Awaitable[None]],
        calls: Sequence[tuple[str, str]],
        in_flight: int,
    ) -> tuple[float, float]:
        """Calls a second, and the median of their seconds."""
        latencies: list[float] = []
        waiting = iter(calls)

        async def worker() -> None:
            for arguments in waiting:
                started = perf_counter()
                await work(*arguments)
                latencies.append(perf_counter() - started)

        async def workers() -> float:
            started = perf_counter()
            await asyncio.gather(*(worker() for _ in range(in_flight)))
            return perf_counter() - started

        return len(calls) / self._run(workers()), median(latencies)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--texts", type=Path, help="texts to store, in place of made ones")
    path = parser.parse_args().texts
    started = perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the service is stopped
    data = load(path)
    _tell(f"{len(data.memories):,} memories: {path or 'made sentences'}")
    encoder, rates = fastest_encoder(list(islice(data.queries(), 1_000)))
    engines = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in rates.items())
    _tell(f"raw pipeline: {encoder.engine.name}, fp32 (batches of 16: {engines})")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        bench = _Bench(data, encoder, runner)
        figures = bench.measure(Path(folder) / "data")
    encoder.close()
    print(render(figures))
    share = median(bench.client_shares)
    _tell(
        f"Medians (smallest to largest) of the rounds. The client took {share:.0%} of one core. "
        f"{(perf_counter() - started) / 60:.1f} minutes."
    )


def _tell(line: str) -> None:
    print(line)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
