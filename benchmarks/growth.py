"""`python -m benchmarks.growth`: what a recall by vector costs as rows grow, and what it finds.

Directly through the pgvector driver, without HTTP and without embedding, on a PostgreSQL of its
own: a usual user's recall as the table grows to each of the given sizes, then users with up to
50,000 memories within each of these sizes of at least 250,000 rows, held against an exact scan.
"""

import argparse
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import asyncpg
import numpy as np
import numpy.typing as npt
import uvloop
from pgvector.asyncpg import register_vector

from app.core.memory.base import DriverContext
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder, Vector
from app.settings import DatabaseSettings, Settings
from benchmarks.data import load_texts
from benchmarks.service import database_url

_DIMENSION = 384
_PER_USER = 100
_CHUNK = 10_000
_CONVERSATIONS = 5
_TAGS = 4
_ROUNDS = 3
_LARGE_ROWS = 250_000
"""Least rows of a table that has a user with 50,000 of them."""

_STAGING = """
    create unlogged table new_rows (
        n bigint, user_id text, conversation_id text, content text, tags text[], embedding vector
    )
"""
_COLUMNS = """
    select attname::text from pg_attribute
    where attrelid = 'memories'::regclass and attnum > 0 and attgenerated = '' and not attisdropped
"""
_GIVEN = {
    "memory_id": "uuidv7()",
    "user_id": "new_rows.user_id",
    "conversation_id": "new_rows.conversation_id",
    "content": "new_rows.content",
    "tags": "new_rows.tags",
    "created_at": "now() - new_rows.n * interval '1 second'",
    "updated_at": "now() - new_rows.n * interval '1 second'",
    "embedding": "new_rows.embedding",
    "words": "to_tsvector('english', new_rows.content)",
}
"""What a row has of its own; the rest is as in the row that the driver stored first."""

_EXACT = """
    select memory_id from memories
    where user_id = $1 and ($2::text is null or conversation_id = $2) and not tags && $3
    order by round((1 - (embedding <=> $4) / 2) * 1e6) desc, created_at desc, memory_id desc
    limit 10
"""


class _Given(Embedder):
    """Answers with the vector that was set last."""

    name = "given"
    dimension = _DIMENSION
    max_tokens = None

    def __init__(self) -> None:
        self.vector: Vector = np.eye(1, _DIMENSION, dtype=np.float32)[0]

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self.vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.repeat(np.eye(1, _DIMENSION, dtype=np.float32), len(texts), axis=0)


class _Vectors:
    """Unit vectors of a file, or made ones that lie in clusters as those of texts do."""

    def __init__(self, path: Path | None) -> None:
        self._chance = np.random.default_rng(3)
        self._given = None if path is None else np.load(path, mmap_mode="r")
        self._centres = self._chance.standard_normal((500, _DIMENSION)).astype(np.float32)
        self._start = 0

    def take(self, count: int) -> Vector:
        """The next ones; those of a file come again, slightly moved, when they are used up."""
        noise = self._chance.standard_normal((count, _DIMENSION)).astype(np.float32)
        if self._given is None:
            return _unit(self._centres[self._chance.integers(0, 500, count)] + noise)
        places = np.arange(self._start, self._start + count)
        turn, rows = np.divmod(places, len(self._given))
        self._start += count
        moved: Vector = self._given[rows] + noise * (turn > 0)[:, None] * 0.005
        return _unit(moved)


def _unit(vectors: npt.NDArray[np.float32]) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Of one user and filter."""

    driver_ms: float
    exact_ms: float
    found: float
    """Share of the exact ten."""


class _Growth:
    def __init__(
        self,
        driver: PgvectorDriver,
        embedder: _Given,
        connection: "asyncpg.Connection[asyncpg.Record]",
        vectors: _Vectors,
        texts: Iterator[str],
    ) -> None:
        self._driver = driver
        self._embedder = embedder
        self._connection = connection
        self._vectors = vectors
        self._texts = texts
        self.rows = 0

    async def fill(self, owners: Sequence[str]) -> None:
        """Store a memory for each of `owners`, by COPY."""
        columns = [row[0] for row in await self._connection.fetch(_COLUMNS)]
        values = [_GIVEN.get(column, f"first.{column}") for column in columns]
        insert = (
            f"insert into memories ({', '.join(columns)}) select {', '.join(values)} "  # noqa: S608
            "from new_rows, (select * from memories where user_id = 'first') as first"
        )
        for start in range(0, len(owners), _CHUNK):
            part = owners[start : start + _CHUNK]
            rows: list[tuple[Any, ...]] = [
                (self.rows + n, owner, f"c{n % _CONVERSATIONS}", text, [f"t{n % _TAGS}"], vector)
                for n, (owner, text, vector) in enumerate(
                    zip(part, self._texts, self._vectors.take(len(part)), strict=False)
                )
            ]
            await self._connection.execute("truncate new_rows")
            await self._connection.copy_records_to_table("new_rows", records=rows)
            await self._connection.execute(insert)
            self.rows += len(part)
        await self._connection.execute("vacuum analyze memories")

    async def measure(
        self, users: Sequence[str], conversation: str | None, excluded: list[str], count: int
    ) -> _Measured:
        """The driver's recall and the exact scan in turn, with the same new queries."""
        driver, exact, found = [], [], []
        for n, vector in enumerate(self._vectors.take(count + 5)):
            user = users[n % len(users)]
            self._embedder.vector = vector
            started = perf_counter()
            memories = await self._driver.recall(user, conversation, "given", exclude_tags=excluded)
            between = perf_counter()
            rows = await self._connection.fetch(_EXACT, user, conversation, excluded, vector)
            if n >= 5:  # the first ones prepare statements
                driver.append(between - started)
                exact.append(perf_counter() - between)
                best = {str(row["memory_id"]) for row in rows}
                ours = {memory.memory_id for memory in memories}
                found.append(len(best & ours) / len(best) if best else float(not ours))
        return _Measured(median(driver) * 1e3, median(exact) * 1e3, sum(found) / len(found))


async def _run(vectors: _Vectors, texts: Iterator[str], rows: Sequence[int]) -> None:
    large = [total for total in rows if total >= _LARGE_ROWS] or rows[-1:]
    await _in_a_new_database(partial(_usual, rows=rows), vectors, texts)
    for total in large:
        await _in_a_new_database(partial(_large, total=total), vectors, texts)


async def _in_a_new_database(
    stage: Callable[[_Growth], Awaitable[None]], vectors: _Vectors, texts: Iterator[str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        data_dir, embedder = Path(folder), _Given()
        database = DatabaseSettings(data_dir=data_dir, url=None)
        settings = Settings(driver="pgvector", database=database)
        context = DriverContext("pgvector", settings, embedder)
        async with PgvectorDriver.from_context(context) as driver:
            await driver.store("first", "The first one.")
            connection = await asyncpg.connect(database_url(data_dir, "memory"))
            await connection.execute("set jit = off; set max_parallel_workers_per_gather = 0")
            await register_vector(connection)
            await connection.execute(_STAGING)
            await stage(_Growth(driver, embedder, connection, vectors, texts))
            await connection.close()


async def _usual(growth: _Growth, rows: Sequence[int]) -> None:
    print("| rows | recall of a user with 100, ms | exact scan, ms |\n|---|---|---|")
    for total in rows:
        new = (total - growth.rows) // _PER_USER
        first = growth.rows // _PER_USER
        owners = [f"u{first + n}" for n in range(new)] * _PER_USER
        await growth.fill(owners)
        users = [f"u{n * 7919 % (total // _PER_USER)}" for n in range(100)]
        rounds = [await growth.measure(users, None, [], 200) for _ in range(_ROUNDS)]
        driver, exact = _ms(r.driver_ms for r in rounds), _ms(r.exact_ms for r in rounds)
        print(f"| {total:,} | {driver} | {exact} |")


async def _large(growth: _Growth, total: int) -> None:
    sizes = [size for size in (10, 1_000, 10_000, 50_000) if size <= total // 4]
    owners = [f"large-{size}" for size in sizes for _ in range(size)]
    owners += [f"u{n}" for n in range((total - len(owners)) // _PER_USER)] * _PER_USER
    order = np.random.default_rng(5).permutation(len(owners))
    await growth.fill([owners[n] for n in order])
    print(
        f"\n| memories of {total:,} | filter | of the exact ten | recall, ms | exact scan, ms "
        "| ratio |\n|---|---|---|---|---|---|"
    )
    for size in sizes:
        filters: list[tuple[str, str | None, list[str]]] = [
            ("", None, []),
            ("conversation", "c1", []),
            ("excluded tags", None, ["t1", "t2"]),
        ]
        for name, conversation, excluded in filters:
            user = [f"large-{size}"]
            rounds = [
                await growth.measure(user, conversation, excluded, 40) for _ in range(_ROUNDS)
            ]
            found = sum(r.found for r in rounds) / len(rounds)
            ratio = median(r.driver_ms / r.exact_ms for r in rounds)
            print(
                f"| {size:,} | {name} | {found:.3f} | {_ms(r.driver_ms for r in rounds)} "
                f"| {_ms(r.exact_ms for r in rounds)} | {ratio:.2f} |"
            )


def _ms(values: Iterator[float]) -> str:
    taken = sorted(values)
    return f"{median(taken):.2f} ({taken[0]:.2f} to {taken[-1]:.2f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--texts", type=Path, help="texts of the rows, in place of made ones")
    parser.add_argument("--vectors", type=Path, help="their unit vectors, .npy, 384 float32 each")
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[10_000, 250_000, 1_000_000],
        help="sizes of the table",
    )
    arguments = parser.parse_args()
    os.environ.setdefault("MEMORY_RECALL_RANKING", "vector")
    vectors = _Vectors(arguments.vectors)
    uvloop.run(_run(vectors, load_texts(arguments.texts), sorted(arguments.rows)))


if __name__ == "__main__":
    main()
