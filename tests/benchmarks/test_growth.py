"""The growth benchmark: what it holds the driver against is right for the schema as it is."""

import asyncpg
import pytest
from pydantic import SecretStr

from app.drivers.pgvector import PgvectorDriver
from app.settings import DatabaseSettings, Limits, RecallSettings
from benchmarks.data import made
from benchmarks.growth.made import Given, Vectors
from benchmarks.growth.rows import Rows
from tests.conftest import NewDatabase

USER = "large"
MEMORIES = 300
"""Few enough that the driver computes every cosine."""


@pytest.mark.parametrize("ranking", ["fused", "vector"])
async def test_the_exact_ten_are_those_of_a_driver_that_leaves_nothing_out(
    new_database: NewDatabase, ranking: str
) -> None:
    url, embedder = await new_database(), Given()
    settings = DatabaseSettings(url=SecretStr(url))
    recall = RecallSettings(ranking=ranking, resident_mb=0)
    async with PgvectorDriver(settings, embedder, Limits(), recall) as driver:
        await driver.store("first", "The first one.")
        connection = await asyncpg.connect(url)
        rows = Rows(connection, Vectors(None), made())
        await rows.open()
        await rows.fill([USER, "other"] * MEMORIES)
        assert rows.count == 2 * MEMORIES
        queries = rows.queries(5)
        fused = await rows.best(USER, queries)
        nearest = [await rows.nearest(USER, None, [], vector) for _, vector in queries]
        assert fused != nearest
        for n, (text, embedder.vector) in enumerate(queries):
            found = await driver.recall(USER, query=text)
            exact = fused[n] if ranking == "fused" else nearest[n]
            assert {memory.memory_id for memory in found} == exact
        await connection.close()


async def test_the_exact_scan_keeps_to_its_filters(new_database: NewDatabase) -> None:
    url, embedder = await new_database(), Given()
    settings = DatabaseSettings(url=SecretStr(url))
    async with PgvectorDriver(settings, embedder, Limits(), RecallSettings(ranking="vector")) as d:
        await d.store("first", "The first one.")
        connection = await asyncpg.connect(url)
        rows = Rows(connection, Vectors(None), made())
        await rows.open()
        await rows.fill([USER] * MEMORIES)
        for text, embedder.vector in rows.queries(3):
            exact = await rows.nearest(USER, "c1", ["t1", "t2"], embedder.vector)
            found = await d.recall(USER, "c1", text, exclude_tags=["t1", "t2"])
            assert {memory.memory_id for memory in found} == exact
            assert all(memory.conversation_id == "c1" for memory in found)
        await connection.close()
