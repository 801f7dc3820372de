"""`python -m benchmarks.failover`: what failover costs, with a healthy and with a dead primary.

Through the drivers, without HTTP, on two PostgreSQLs of its own: recalls of the bare driver and of
failover over it, in turn, so that what else the machine does meets both.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter

import uvloop
from pydantic import SecretStr

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import build_embedder
from app.logs import configure_logging
from app.settings import (
    DatabaseSettings,
    EmbeddingSettings,
    FailoverSettings,
    JournalSettings,
    Limits,
    load_settings,
)
from app.wrappers.failover import FailoverDriver
from benchmarks.data import load, user

_MEMORIES, _USERS = 1_000, 10
_WARM = 100
_ROUNDS = 3


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__)
    parser.add_argument("--texts", type=Path, help="a file of texts, in place of made ones")
    parser.add_argument("--recalls", type=int, default=3_000, help="of each, in each round")
    arguments = parser.parse_args()
    data = load(arguments.texts)
    texts = [text for text, _ in zip(data.texts(), range(_MEMORIES), strict=False)]
    asked = [text for text, _ in zip(data.queries(), range(arguments.recalls), strict=False)]
    configure_logging(load_settings())
    uvloop.run(_run(texts, asked))


async def _run(texts: Sequence[str], asked: Sequence[str]) -> None:
    embedder = build_embedder(EmbeddingSettings())
    limits = Limits()
    with tempfile.TemporaryDirectory(prefix="failover-") as folder:
        servers = [EmbeddedPostgres(Path(folder) / name) for name in ("first", "second")]
        drivers: list[BaseMemoryDriver] = []
        for server in servers:
            await server.open()
            await embedder.open()
            await migrations.upgrade(server.dsn, embedder.dimension)
            driver = PgvectorDriver(
                DatabaseSettings(url=SecretStr(server.dsn), index_rebuild=False), embedder, limits
            )
            await driver.open()
            driver.name = f"pgvector-{len(drivers)}"
            memories = [
                NewMemory(user_id=user(n % _USERS), content=text) for n, text in enumerate(texts)
            ]
            await driver.store_many(memories)
            drivers.append(driver)
        first, second = drivers
        failover = FailoverDriver(
            drivers,
            FailoverSettings(),
            JournalSettings(path=Path(folder) / "journal"),
            embedder,
            limits,
        )
        await failover.open()
        print("| recall | p50, ms | p99, ms | p50 ratio | p99 ratio |\n|---|---|---|---|---|")
        for n in range(_ROUNDS):
            queries = [f"{query} {n}" for query in asked]
            await _compare("bare primary", first, "failover, primary healthy", failover, queries)
        await servers[0].close()
        for n in range(_ROUNDS, 2 * _ROUNDS):
            queries = [f"{query} {n}" for query in asked]
            await _compare("bare fallback", second, "failover, primary dead", failover, queries)
        await failover.close()
        await servers[1].close()
        await embedder.close()


async def _compare(
    bare: str, driver: BaseMemoryDriver, held: str, failover: BaseMemoryDriver, asked: Sequence[str]
) -> None:
    taken: dict[str, list[float]] = {bare: [], held: []}
    for n, query in enumerate(asked):
        pair = [(bare, driver), (held, failover)]
        for name, one in pair if n % 2 else pair[::-1]:
            started = perf_counter()
            # Other words for each, so that neither has the other's vector from the cache.
            await one.recall(user(n % _USERS), query=f"{query} {name[0]}")
            if n >= _WARM:
                taken[name].append(perf_counter() - started)
    p50 = {name: median(values) * 1e3 for name, values in taken.items()}
    p99 = {name: quantiles(values, n=100)[98] * 1e3 for name, values in taken.items()}
    print(f"| {bare} | {p50[bare]:.2f} | {p99[bare]:.2f} | | |")
    print(
        f"| {held} | {p50[held]:.2f} | {p99[held]:.2f} | {p50[held] / p50[bare]:.3f} "
        f"| {p99[held] / p99[bare]:.2f} |"
    )


if __name__ == "__main__":
    main()
