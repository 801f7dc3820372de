"""`python -m benchmarks.loaded`: what a recall costs just after a bulk load.

Directly through the pgvector driver, without HTTP and without embedding, on a PostgreSQL of its
own, with nobody's memories kept in the process (`MEMORY_RECALL_RESIDENT_MB=0`): 25,000 memories in
batches, 5,000 of them of one user, whose fused recalls are timed at once and after pauses, and
after a `vacuum` by hand; as the service vacuums, and without that.
"""

import asyncio
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import asyncpg
import numpy as np
import uvloop

from app.core.memory.base import DriverContext
from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver, vacuum
from app.embedding import Embedder, Vector
from app.settings import DatabaseSettings, RecallSettings, Settings
from benchmarks.data import made
from benchmarks.service import database_url

_DIMENSION = 384
_ROWS = 25_000
_BATCH = 1_000
_RECALLS = 40
_PAUSES = (0.0, 3.0, 10.0)
"""Seconds after the load."""


class _Made(Embedder):
    """Gives unit vectors at random."""

    name = "made"
    dimension = _DIMENSION
    max_tokens = None

    def __init__(self) -> None:
        self._chance = np.random.default_rng(3)

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        vector: Vector = (await self.embed([text]))[0]
        return vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        drawn = self._chance.standard_normal((len(texts), _DIMENSION)).astype(np.float32)
        unit: Vector = np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), np.float32)
        return unit


async def _milliseconds(driver: PgvectorDriver, queries: Sequence[str]) -> float:
    """The median of one recall."""
    taken = []
    for query in queries:
        started = perf_counter()
        await driver.recall("heavy", query=query)
        taken.append(perf_counter() - started)
    return 1e3 * median(taken)


async def _measure(texts: Sequence[str]) -> tuple[float, list[float], float]:
    """Seconds of the load, and milliseconds of a recall after each pause and after a vacuum."""
    with tempfile.TemporaryDirectory(prefix="loaded-") as folder:
        database = DatabaseSettings(data_dir=Path(folder), url=None)
        recall = RecallSettings(resident_mb=0)
        settings = Settings(driver="pgvector", database=database, recall=recall)
        context = DriverContext("pgvector", settings, _Made())
        async with PgvectorDriver.from_context(context) as driver:
            new = [
                NewMemory(user_id="heavy" if n % 5 == 0 else f"u{n % 200}", content=text)
                for n, text in enumerate(texts[:_ROWS])
            ]
            queries = [" ".join(text.split()[:12]) for text in texts[_ROWS:]]
            started = perf_counter()
            for start in range(0, len(new), _BATCH):
                await driver.store_many(new[start : start + _BATCH])
            loaded = perf_counter()
            after = []
            for pause in _PAUSES:
                await asyncio.sleep(max(0.0, loaded + pause - perf_counter()))
                after.append(await _milliseconds(driver, queries))
            connection = await asyncpg.connect(database_url(Path(folder), "memory"))
            await connection.execute("vacuum analyze memories")
            await connection.close()
            return loaded - started, after, await _milliseconds(driver, queries)


async def _run() -> None:
    texts = list(islice(made(), _ROWS + _RECALLS))
    pauses = ", ".join(f"{pause:.0f} s after it" for pause in _PAUSES)
    print(f"| | load, s | recall {pauses}, ms | after a vacuum by hand, ms |\n|---|---|---|---|")
    as_it_is = vacuum.ROWS, vacuum.FEW_ROWS
    for name, (rows, few) in {
        "as the service vacuums": as_it_is,
        "without": (10**9, 10**9),
    }.items():
        vacuum.ROWS, vacuum.FEW_ROWS = rows, few
        load, after, vacuumed = await _measure(texts)
        told = ", ".join(f"{each:.1f}" for each in after)
        print(f"| {name} | {load:.1f} | {told} | {vacuumed:.1f} |", flush=True)
    vacuum.ROWS, vacuum.FEW_ROWS = as_it_is


if __name__ == "__main__":
    uvloop.run(_run())
