"""Recall of knowledge at size: the share of the exact ten that is found, and how long it takes.

    python -m benchmarks.knowledge VECTORS.npy TEXTS.jsonl QUERIES.npy
    python -m benchmarks.knowledge --rows 20000

VECTORS and QUERIES are float32 unit vectors, TEXTS has one {"text": ...} a line. Without them, the
vectors are generated around some hundred centres, which flatters every index. It runs on an
embedded PostgreSQL of its own, with the statements and the rebuild that the service uses; one
connection, each statement prepared, one query at a time.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt
from pgvector.asyncpg import register_vector
from uuid_utils.compat import uuid7

from app.core.memory.clock import CLOCK
from app.core.memory.requests import RecallKnowledge
from app.drivers.pgvector import indexes, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql.knowledge import search

Vectors = npt.NDArray[np.float32]

_COLUMNS = [
    *("knowledge_id", "category", "content", "metadata", "created_at", "updated_at", "embedding")
]
_CATEGORIES = {"60%": 0.6, "8%": 0.08, "1%": 0.01, "rest": 0.31}
_TOP = 10


class Data(NamedTuple):
    """What is stored and what is asked; a category for every text."""

    vectors: Vectors
    texts: list[str]
    queries: Vectors
    categories: npt.NDArray[np.str_]


def generated(rows: int, queries: int) -> tuple[Vectors, list[str], Vectors]:
    """Unit vectors of 384 dimensions around 300 centres."""
    random = np.random.default_rng(1)
    centres = random.normal(size=(300, 384))
    points = centres[random.integers(300, size=rows + queries)]
    points = points + 0.9 * random.normal(size=points.shape)
    unit = np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)
    return unit[:rows], [f"fact {n}" for n in range(rows)], unit[rows:]


def read(arguments: argparse.Namespace) -> Data:
    if arguments.vectors is None:
        vectors, texts, queries = generated(arguments.rows or 20_000, arguments.queries)
    else:
        vectors = np.load(arguments.vectors)[: arguments.rows]
        with Path(arguments.texts).open() as lines:
            texts = [json.loads(line)["text"] for line in lines][: len(vectors)]
        queries = np.load(arguments.query_vectors)[: arguments.queries]
    shares = list(_CATEGORIES.values())
    categories = np.random.default_rng(2).choice(list(_CATEGORIES), size=len(vectors), p=shares)
    return Data(vectors, texts, queries, categories)


async def load(url: str, data: Data) -> None:
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    now = datetime.now(UTC)
    rows = zip(data.categories, data.texts, data.vectors, strict=True)
    await connection.copy_records_to_table(
        "global_knowledge",
        columns=_COLUMNS,
        records=((uuid7(), str(kind), text, "{}", now, now, vector) for kind, text, vector in rows),
    )
    await connection.execute("vacuum analyze global_knowledge")
    await connection.close()


def best(data: Data, category: str | None) -> list[set[str]]:
    """The exact ten of every query, by their texts, which are unique."""
    rows = np.arange(len(data.texts))
    if category is not None:
        rows = rows[data.categories == category]
    vectors = data.vectors[rows]
    return [{data.texts[n] for n in rows[np.argsort(-(vectors @ q))[:_TOP]]} for q in data.queries]


async def measure(url: str, data: Data, name: str, *, bound: int = 0) -> None:
    """Print the share of the exact ten found, and the milliseconds, for all and each category.

    Up to `bound` rows are ranked exactly; 0 is what the service has.
    """
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    dimension = data.vectors.shape[1]
    bounds = (bound, bound) if bound else ()
    for category in (None, *_CATEGORIES):
        wanted = RecallKnowledge(query="", top_k=_TOP, category=category)
        statement, extra = search(wanted, CLOCK.now(), dimension, *bounds, generation=1)
        prepared = await connection.prepare(statement)
        expected = best(data, category)
        for _ in range(8):  # PostgreSQL has chosen its plan then, and the pages are in memory
            await prepared.fetch(data.queries[0], _TOP, *extra)
        found, took = [], []
        for query, ten in zip(data.queries, expected, strict=True):
            started = time.perf_counter()
            rows = await prepared.fetch(query, _TOP, *extra)
            took.append((time.perf_counter() - started) * 1_000)
            found.append(len(ten & {row["content"] for row in rows}) / _TOP)
        middle, late = statistics.median(took), float(np.quantile(took, 0.95))
        print(
            f"{name:24} {category or 'everything':10} recall@10 {statistics.mean(found):.3f}"
            f"  p50 {middle:7.2f} ms  p95 {late:7.2f} ms  least {min(took):7.2f} ms",
            flush=True,
        )
    await connection.close()


async def run(arguments: argparse.Namespace) -> None:
    data = read(arguments)
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    server = EmbeddedPostgres(folder)
    try:
        await server.open()
        await migrations.upgrade(server.dsn, data.vectors.shape[1])
        await load(server.dsn, data)
        few = data._replace(queries=data.queries[:20])
        await measure(server.dsn, few, "exact", bound=2**31 - 2)
        kinds: tuple[indexes.Kind, ...] = ("ivfflat", "hnsw")
        for kind in kinds:
            started = time.perf_counter()
            await indexes.rebuild(server.dsn, kind)
            print(f"{kind} built in {time.perf_counter() - started:.0f} s", flush=True)
            await measure(server.dsn, data, kind)
    finally:
        await server.close()
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("vectors", nargs="?")
    parser.add_argument("texts", nargs="?")
    parser.add_argument("query_vectors", nargs="?")
    parser.add_argument("--rows", type=int)
    parser.add_argument("--queries", type=int, default=200)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
