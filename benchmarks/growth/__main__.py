"""`python -m benchmarks.growth`: what a recall costs as rows grow, and what it finds.

Directly through the pgvector driver, without HTTP and without embedding, on a PostgreSQL of its
own. Twice each: as PostgreSQL has the memories (`MEMORY_RECALL_RESIDENT_MB=0`), and of users whose
memories stay in the process. Three tables, the first two by the cosine alone unless
`MEMORY_RECALL_RANKING` says otherwise:

1. a usual user's recall as the table grows to each of the given sizes;
2. of users with up to 50,000 memories, within each of these sizes of at least 250,000 rows, a
   recall with each filter, held against an exact scan of the cosines;
3. of users with 1,500 to 50,000 memories, a fused recall, held against the points of all of their
   memories.
"""

import argparse
import os
import tempfile
from asyncio import sleep
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter
from typing import NamedTuple

import asyncpg
import numpy as np
import uvloop
from pydantic import SecretStr

from app.core.memory.base import DriverContext
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Vector
from app.settings import DatabaseSettings, RecallSettings, Settings
from benchmarks.data import load_texts
from benchmarks.growth.made import Given, Vectors
from benchmarks.growth.rows import Rows
from benchmarks.service import database_url

_PER_USER = 100
_ROUNDS = 3
_WARM = 5
"""Recalls that prepare statements, and are not counted."""
_LARGE_ROWS = 250_000
"""Least rows of a table that has a user with 50,000 of them."""
_FUSED = (1_500, 5_000, 20_000, 50_000)
_RESIDENT_MB = 1_000
_RESIDENT_SECONDS = 120.0


class _Stage:
    """A database, and a driver for each way to its memories."""

    def __init__(self, drivers: dict[str, PgvectorDriver], embedder: Given, rows: Rows) -> None:
        self.drivers = drivers
        self.rows = rows
        self._embedder = embedder

    async def recall(
        self,
        driver: PgvectorDriver,
        user: str,
        query: tuple[str, Vector],
        conversation: str | None = None,
        excluded: Sequence[str] = (),
    ) -> tuple[float, set[str]]:
        """How many seconds it took, and the ids that it found."""
        text, self._embedder.vector = query
        started = perf_counter()
        found = await driver.recall(user, conversation, text, exclude_tags=list(excluded))
        return perf_counter() - started, {memory.memory_id for memory in found}

    async def keep(self, users: Sequence[str]) -> None:
        """Wait until the process keeps the memories of all of the users."""
        driver = self.drivers["kept"]
        end = monotonic() + _RESIDENT_SECONDS
        while True:
            before = await _residents(driver)
            for user in users:
                await driver.recall(user, query="kettle")
            if before == await _residents(driver) >= len(users):
                return
            if monotonic() > end:
                raise SystemExit(f"{before} of {len(users)} users are kept")
            await sleep(0.1)


async def _residents(driver: PgvectorDriver) -> int:
    return int((await driver.health_check()).facts["resident_users"])


class _Measured(NamedTuple):
    """Medians of one round."""

    sql_ms: float
    kept_ms: float
    exact_ms: float
    sql_found: float
    """Share of the exact ten."""
    kept_found: float


async def _measure(
    stage: _Stage,
    users: Sequence[str],
    conversation: str | None,
    excluded: list[str],
    count: int,
) -> _Measured:
    """Both recalls and the exact scan in turn, with the same new queries."""
    times: dict[str, list[float]] = {"sql": [], "kept": [], "exact": []}
    shares: dict[str, list[float]] = {"sql": [], "kept": []}
    for n, query in enumerate(stage.rows.queries(count + _WARM)):
        user = users[n % len(users)]
        filters = (conversation, excluded)
        found = {
            name: await stage.recall(driver, user, query, *filters)
            for name, driver in stage.drivers.items()
        }
        started = perf_counter()
        exact = await stage.rows.nearest(user, *filters, query[1])
        taken = perf_counter() - started
        if n >= _WARM:
            times["exact"].append(taken)
            for name, (seconds, ids) in found.items():
                times[name].append(seconds)
                shares[name].append(_share(ids, exact))
    return _Measured(
        *(median(times[name]) * 1e3 for name in ("sql", "kept", "exact")),
        *(sum(shares[name]) / len(shares[name]) for name in ("sql", "kept")),
    )


def _share(found: set[str], exact: set[str]) -> float:
    return len(exact & found) / len(exact) if exact else float(not found)


async def _usual(stage: _Stage, rows: Sequence[int]) -> None:
    print(
        "| rows | recall of a user with 100, ms | of one who is kept, ms | exact scan, ms |\n"
        "|---|---|---|---|"
    )
    for total in rows:
        new = (total - stage.rows.count) // _PER_USER
        first = stage.rows.count // _PER_USER
        await stage.rows.fill([f"u{first + n}" for n in range(new)] * _PER_USER)
        users = list(dict.fromkeys(f"u{n * 7919 % (total // _PER_USER)}" for n in range(100)))
        await stage.keep(users)
        rounds = [await _measure(stage, users, None, [], 200) for _ in range(_ROUNDS)]
        times = (_ms(r[n] for r in rounds) for n in range(3))
        print(f"| {total:,} | {' | '.join(times)} |", flush=True)


async def _large(stage: _Stage, total: int) -> None:
    sizes = [size for size in (10, 1_000, 10_000, 50_000) if size <= total // 4]
    await _fill_mixed(stage, sizes, total)
    print(
        f"\n| memories of {total:,} | filter | of the exact ten | recall, ms | of the exact ten, "
        "kept | recall, kept, ms | exact scan, ms |\n|---|---|---|---|---|---|---|"
    )
    for size in sizes:
        user = [_large_user(size)]
        await stage.keep(user)
        filters: list[tuple[str, str | None, list[str]]] = [
            ("", None, []),
            ("conversation", "c1", []),
            ("excluded tags", None, ["t1", "t2"]),
        ]
        for name, conversation, excluded in filters:
            rounds = [
                await _measure(stage, user, conversation, excluded, 40) for _ in range(_ROUNDS)
            ]
            sql, kept, exact = (_ms(r[n] for r in rounds) for n in range(3))
            found = [sum(r[n] for r in rounds) / len(rounds) for n in (3, 4)]
            print(
                f"| {size:,} | {name} | {found[0]:.3f} | {sql} | {found[1]:.3f} | {kept} "
                f"| {exact} |",
                flush=True,
            )


async def _fused(stage: _Stage, sizes: Sequence[int], queries: int) -> None:
    await _fill_mixed(stage, sizes, sum(sizes))
    print(
        "\n| memories of a user | of the exact fused ten | fused recall, ms "
        "| of the exact fused ten, kept | fused recall, kept, ms |\n|---|---|---|---|---|"
    )
    for size in sizes:
        user = _large_user(size)
        await stage.keep([user])
        asked = stage.rows.queries(queries + _WARM)
        exact = await stage.rows.best(user, asked)
        cells = []
        for driver in stage.drivers.values():
            recalled = [await stage.recall(driver, user, query) for query in asked]
            times = [seconds * 1e3 for seconds, _ in recalled[_WARM:]]
            shares = [_share(ids, ten) for (_, ids), ten in zip(recalled, exact, strict=True)]
            cells += [f"{sum(shares) / len(shares):.3f}", f"{median(times):.2f}"]
        print(f"| {size:,} | {' | '.join(cells)} |", flush=True)


async def _fill_mixed(stage: _Stage, sizes: Sequence[int], total: int) -> None:
    """Users of these sizes, and usual ones, in a mixed order."""
    owners = [_large_user(size) for size in sizes for _ in range(size)]
    owners += [f"u{n}" for n in range((total - len(owners)) // _PER_USER)] * _PER_USER
    order = np.random.default_rng(5).permutation(len(owners))
    await stage.rows.fill([owners[n] for n in order])


def _large_user(size: int) -> str:
    return f"large-{size}"


def _ms(values: Iterable[float]) -> str:
    taken = sorted(values)
    return f"{median(taken):.2f} ({taken[0]:.2f} to {taken[-1]:.2f})"


async def _in_a_new_database(
    stage: Callable[[_Stage], Awaitable[None]],
    vectors: Vectors,
    texts: Iterator[str],
    ranking: str,
) -> None:
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        data_dir, embedder = Path(folder), Given()

        def driver(database: DatabaseSettings, resident_mb: int) -> PgvectorDriver:
            recall = RecallSettings(ranking=ranking, resident_mb=resident_mb)
            settings = Settings(driver="pgvector", database=database, recall=recall)
            return PgvectorDriver.from_context(DriverContext("pgvector", settings, embedder))

        embedded = DatabaseSettings(data_dir=data_dir, url=None)
        async with driver(embedded, 0) as sql:
            await sql.store("first", "The first one.")
            url = database_url(data_dir, "memory")
            by_url = DatabaseSettings(url=SecretStr(url))
            async with driver(by_url, _RESIDENT_MB) as kept:
                connection = await asyncpg.connect(url)
                rows = Rows(connection, vectors, texts)
                await rows.open()
                await stage(_Stage({"sql": sql, "kept": kept}, embedder, rows))
                await connection.close()


async def _run(
    vectors: Vectors, texts: Iterator[str], rows: Sequence[int], fused: Sequence[int], queries: int
) -> None:
    large = [total for total in rows if total >= _LARGE_ROWS] or rows[-1:]
    ranking = os.environ.get("MEMORY_RECALL_RANKING", "vector")
    await _in_a_new_database(partial(_usual, rows=rows), vectors, texts, ranking)
    for total in large:
        await _in_a_new_database(partial(_large, total=total), vectors, texts, ranking)
    stage = partial(_fused, sizes=fused, queries=queries)
    await _in_a_new_database(stage, vectors, texts, "fused")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--texts", type=Path, help="texts of the rows, in place of made ones")
    parser.add_argument("--vectors", type=Path, help="their unit vectors, .npy, 384 float32 each")
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[10_000, 250_000, 1_000_000],
        help="sizes of the table",
    )
    parser.add_argument(
        "--fused", type=int, nargs="+", default=_FUSED, help="memories of a user, for the third"
    )
    parser.add_argument("--queries", type=int, default=40, help="of each user of the third")
    arguments = parser.parse_args()
    vectors, texts = Vectors(arguments.vectors), load_texts(arguments.texts)
    fused = sorted(arguments.fused)
    uvloop.run(_run(vectors, texts, sorted(arguments.rows), fused, arguments.queries))


if __name__ == "__main__":
    main()
