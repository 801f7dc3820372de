"""Recall is exact, whatever the planner would like better."""

import json
from typing import Any

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector

from app.core.memory.drivers.pgvector import sql
from app.core.memory.records import Memory
from app.database.embedded import EmbeddedPostgres
from app.embedding import Embedder
from tests.conftest import database_url
from tests.drivers.conftest import OpenDriver

ROWS = 20_000
LARGE = "large"

FILL = """
    insert into memories
        (memory_id, user_id, conversation_id, content, tags, metadata, created_at, embedding)
    select gen_random_uuid(), case when n % 4 = 0 then $1 else 'user ' || n % 500 end,
        'c' || n % 7, 'kettle ' || n, array['t' || n % 5], '{}', now() - n * interval '1 second',
        (select array_agg(random() - 0.5 + 0 * n * d) from generate_series(1, 384) as d)::vector
    from generate_series(1, $2) as n
"""


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str) -> str:
    """A database with 20,000 memories, a quarter of them one user's, and fresh statistics."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database filled template {template}")
    await admin.close()
    url = database_url(postgres, "filled")
    connection = await asyncpg.connect(url)
    await connection.execute(FILL, LARGE, ROWS)
    await connection.execute("analyze memories")
    await connection.close()
    return url


async def test_a_large_users_recall_is_exact(
    filled: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await open_driver(filled)
    connection = await asyncpg.connect(filled)
    await register_vector(connection)
    rows = await connection.fetch(
        "select memory_id, conversation_id, tags, embedding from memories where user_id = $1", LARGE
    )
    await connection.close()
    vectors = np.array([row["embedding"].to_numpy() for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    filters: list[tuple[dict[str, Any], Any]] = [
        ({}, lambda row: True),
        ({"conversation_id": "c3"}, lambda row: row["conversation_id"] == "c3"),
        ({"exclude_tags": ["t1", "t2", "t3"]}, lambda row: row["tags"][0] in {"t0", "t4"}),
    ]
    for query in ("What is the kettle made of?", "trains to Lyon"):
        scores = (1 + vectors @ await embedder.embed_query(query)) / 2
        own = {str(row["memory_id"]): score for row, score in zip(rows, scores, strict=True)}
        for arguments, keep in filters:
            kept = [score for row, score in zip(rows, scores, strict=True) if keep(row)]
            found = await driver.recall(LARGE, query=query, top_k=10, **arguments)
            # By score, and not by id: two that differ in the seventh decimal are a tie.
            exact = pytest.approx(sorted(kept, reverse=True)[:10], abs=2e-6)
            assert [memory.score for memory in found] == exact
            assert [own[memory.memory_id] for memory in found] == exact


@pytest.mark.parametrize("conversation", [False, True])
@pytest.mark.parametrize("user", [LARGE, "user 7"])
@pytest.mark.parametrize("vector", [False, True])
async def test_no_recall_is_answered_by_the_approximate_index(
    filled: str, embedder: Embedder, conversation: bool, user: str, vector: bool
) -> None:
    connection = await asyncpg.connect(filled)
    await register_vector(connection)
    statement = (sql.RECALL_BY_VECTOR if vector else sql.RECALL_NEWEST)[conversation]
    arguments: list[Any] = [user, "c3" if conversation else None, [], 10]
    if vector:
        arguments.append(await embedder.embed_query("kettle"))
    for mode in ("force_custom_plan", "force_generic_plan"):
        await connection.execute(f"set plan_cache_mode = {mode}")
        plan = json.loads(
            await connection.fetchval(f"explain (format json) {statement}", *arguments)
        )
        assert "memories_embedding" not in json.dumps(plan)
        if user != LARGE:
            assert "Seq Scan" not in json.dumps(plan)
    await connection.close()


async def test_an_export_goes_through_every_page(filled: str, open_driver: OpenDriver) -> None:
    driver = await open_driver(filled)
    records = [record async for record in driver.export_records()]
    ids = {record.memory_id for record in records if isinstance(record, Memory)}
    assert len(ids) == len(records) == ROWS


async def test_newest_first_reads_no_more_than_it_gives(filled: str) -> None:
    connection = await asyncpg.connect(filled)
    explain = f"explain (analyze, format json) {sql.RECALL_NEWEST[False]}"
    plan = json.loads(await connection.fetchval(explain, LARGE, None, [], 10))[0]["Plan"]
    await connection.close()
    assert plan["Plans"][0]["Index Name"] == "memories_newest"
    assert plan["Plans"][0]["Actual Rows"] == 10
