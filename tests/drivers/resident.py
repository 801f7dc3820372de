"""Users who are kept in a driver's memory: how a test makes them so, and sees what they cost."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from zlib import crc32

import asyncpg
import numpy as np

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.sql import reembedding as reembedding_sql
from app.embedding import Embedder, Vector, Windows

WINDOW = " | "
"""Between the windows of a text."""


class Chance(Embedder):
    """Every text has a vector of chance, always the same."""

    name, max_tokens = "chance", None

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def windows(self, text: str, prefix: str = "") -> Windows:
        return Windows(text.split(WINDOW))

    async def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vector:
        rng = np.random.default_rng(crc32(text.encode()))
        vector = rng.standard_normal(self.dimension, np.float32)
        return vector / np.linalg.norm(vector)


async def store(driver: PgvectorDriver, user: str, *contents: str) -> list[str]:
    """The ids of new memories."""
    new = [NewMemory(user_id=user, content=content) for content in contents]
    return [memory.memory_id for memory in await driver.store_many(new)]


async def contents(driver: PgvectorDriver, user: str, query: str = "kettle") -> set[str]:
    """What a recall of a hundred finds."""
    return {memory.content for memory in await driver.recall(user, query=query, top_k=100)}


async def residents(driver: PgvectorDriver) -> int:
    """How many users are kept."""
    return int((await driver.health_check()).facts["resident_users"])


async def become_resident(driver: PgvectorDriver, *users: str) -> None:
    """Recall each, and wait until one more is kept."""
    for user in users:
        before = await residents(driver)
        await driver.recall(user, query="kettle")
        async with asyncio.timeout(10):
            while await residents(driver) <= before:
                await asyncio.sleep(0.01)


async def be_resident(driver: PgvectorDriver, user: str) -> None:
    """Wait until the only user of a driver is kept: perhaps it is read again already."""
    async with asyncio.timeout(10):
        while not await residents(driver):
            await driver.recall(user, query="kettle")
            await asyncio.sleep(0.01)


@asynccontextmanager
async def statements(driver: PgvectorDriver) -> AsyncIterator[list[str]]:
    """The statements of a driver that has one connection, as they run.

    Without the driver's own look for another model, which comes every two seconds.
    """
    seen: list[str] = []

    def log(record: asyncpg.connection.LoggedQuery) -> None:
        if record.query != reembedding_sql.SECOND:
            seen.append(record.query)

    async with driver.connections.acquire() as connection:
        connection.add_query_logger(log)
    yield seen
    async with driver.connections.acquire() as connection:
        connection.remove_query_logger(log)


async def execute(url: str, *steps: str) -> None:
    """Run statements one by one, as some client does."""
    connection = await asyncpg.connect(url)
    try:
        for step in steps:
            await connection.execute(step)
    finally:
        await connection.close()
