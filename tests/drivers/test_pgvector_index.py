"""The knowledge's vector index: its plans, what it finds, and its life while everybody uses it."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from pgvector.asyncpg import register_vector
from pydantic import SecretStr

from app.core.memory.filter import EVERYTHING, read_filter
from app.core.memory.requests import RecallKnowledge
from app.drivers.pgvector import PgvectorDriver, indexes, migrations
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql.knowledge import Search, search
from app.embedding import Embedder, Vector
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver

ROWS = 6_000
SMALL, MIDDLE, LARGE = "small", "middle", "large"
MODES = ("force_custom_plan", "force_generic_plan")

COLUMNS = [
    *("knowledge_id", "category", "content", "doc_id", "metadata"),
    *("created_at", "updated_at", "embedding"),
]
KINDS: tuple[Literal["ivfflat", "hnsw"], ...] = ("ivfflat", "hnsw")


def clustered(rows: int, seed: int) -> Vector:
    """Unit vectors around 200 centres, as texts of one field lie."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(200, 384))
    vectors = centres[random.integers(200, size=rows)] + 0.7 * random.normal(size=(rows, 384))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


async def fill(url: str, categories: Sequence[str], seed: int) -> None:
    """Store one piece of knowledge for each of the categories; every second one is even."""
    start = datetime.now(UTC)

    def row(n: int, category: str, vector: Vector) -> tuple[Any, ...]:
        time = start - timedelta(seconds=n)
        metadata = json.dumps({"n": n, "even": n % 2 == 0})
        return uuid4(), category, f"fact {n}", str(n % 10), metadata, time, time, vector

    async with connected(url) as connection:
        await connection.copy_records_to_table(
            "global_knowledge",
            columns=COLUMNS,
            records=[
                row(n, category, vector)
                for n, (category, vector) in enumerate(
                    zip(categories, clustered(len(categories), seed), strict=True)
                )
            ],
        )


async def remember_model(url: str, embedder: Embedder) -> None:
    """Let the database have the model, as the first service that opens it does."""
    async with PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits()):
        pass


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str, embedder: Embedder) -> str:
    """A database with 6,000 pieces of knowledge: 400 small, 1,600 middle, 4,000 large; indexed."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database knowledge template {template}")
    await admin.close()
    url = database_url(postgres, "knowledge")
    await remember_model(url, embedder)
    await fill(url, [SMALL] * 400 + [MIDDLE] * 1_600 + [LARGE] * 4_000, 1)
    async with connected(url) as connection:
        await connection.execute("vacuum analyze global_knowledge")
    await indexes.rebuild(url, "ivfflat")
    return url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(url)
    try:
        await register_vector(connection)
        yield connection
    finally:
        await connection.close()


def wanted(category: str | None = None, **more: Any) -> tuple[RecallKnowledge, datetime]:
    """What a search is for, and when."""
    return RecallKnowledge(query="", category=category, **more), datetime.now(UTC)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Every node of a plan that ran, but for those that count up to a bound."""
    if plan["Actual Loops"] == 0 or plan.get("Subplan Name", "").startswith("CTE size"):
        return []
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def ways(url: str, search: Search, query: Vector, top_k: int) -> set[tuple[str, str]]:
    """By which nodes and indexes the table was read, in both kinds of plan; they must agree.

    The index of what expires is left out: what has expired is counted by it.
    """
    found = []
    async with connected(url) as connection:
        for mode in MODES:
            await connection.execute(f"set plan_cache_mode = {mode}")
            text = await connection.fetchval(
                f"explain (analyze, format json) {search.statement}",
                *(query, top_k, *search.arguments),
            )
            read = {
                (node["Node Type"], node.get("Index Name", node.get("Relation Name", "")))
                for node in nodes(json.loads(text)[0]["Plan"])
                if ("Index Name" in node or "Relation Name" in node)
                and node.get("Index Name") != "global_knowledge_expiring"
            }
            found.append(read)
    assert found[0] == found[1]
    return found[0]


async def test_everything_is_searched_by_the_vector_index(filled: str) -> None:
    read = await ways(filled, search(*wanted(), 384, generation=1), clustered(1, 2)[0], 10)
    assert read == {("Index Scan", indexes.INDEX)}


async def test_few_rows_are_all_ranked(filled: str) -> None:
    read = await ways(
        filled, search(*wanted(), 384, exact=ROWS, generation=1), clustered(1, 2)[0], 10
    )
    assert read == {("Seq Scan", "global_knowledge")}


async def test_each_category_is_searched_in_the_way_that_its_size_wants(filled: str) -> None:
    query = clustered(1, 2)[0]
    small, middle, large = [
        await ways(filled, search(*wanted(category), 384, 1_000, 2_000, generation=1), query, 10)
        for category in (SMALL, MIDDLE, LARGE)
    ]
    assert {index for _, index in small} <= {
        "global_knowledge_category",
        "global_knowledge_newest_of_category",
        "global_knowledge",
    }
    assert ("Index Only Scan", "global_knowledge_category") in middle
    assert middle <= {
        ("Index Only Scan", "global_knowledge_category"),
        ("Index Scan", "global_knowledge_pkey"),
    }
    assert large == {("Index Scan", indexes.INDEX)}


@pytest.mark.parametrize("kind", KINDS)
async def test_both_kinds_of_index_find_the_best_of_everything_and_of_a_category(
    filled: str, kind: indexes.Kind
) -> None:
    assert await indexes.rebuild(filled, kind)
    async with connected(filled) as connection:
        for category in (None, SMALL, MIDDLE, LARGE):
            way = search(*wanted(category), 384, 1_000, 2_000, generation=1)
            hits = 0
            for query in clustered(20, 3):
                rows = await connection.fetch(way.statement, query, 10, *way.arguments)
                scores = [row["score"] for row in rows]
                assert len(rows) == 10
                assert scores == sorted(scores, reverse=True)
                best = await connection.fetch(
                    "select knowledge_id from global_knowledge where $3::text is null"
                    " or category = $3 order by round((1 - (embedding <=> $1) / 2) * 1e6) desc,"
                    " created_at desc limit $2",
                    query,
                    10,
                    category,
                )
                hits += len({row[0] for row in best} & {row["knowledge_id"] for row in rows})
            assert hits >= (200 if category == SMALL else 190)


EVEN: dict[str, Any] = {"metadata": {"n": {"gte": 0}, "even": True}}
"""Every second row of `fill` is so."""


@pytest.mark.parametrize("given", [{}, EVEN])
@pytest.mark.parametrize("kind", KINDS)
async def test_what_expired_or_is_filtered_out_uses_up_no_limit(
    filled: str, kind: indexes.Kind, given: dict[str, Any]
) -> None:
    """The nearest 300 of the table and the nearest 100 of each category have expired."""
    assert await indexes.rebuild(filled, kind)
    read = read_filter(given, Limits(), knowledge=True)
    async with connected(filled) as connection, undone(connection):
        query = clustered(1, 8)[0]
        for category in (None, SMALL, MIDDLE, LARGE):
            await connection.execute(EXPIRE, query, category, 100 if category else 300)
        for category in (None, SMALL, MIDDLE, LARGE):
            for doc_id in (None, "4"):
                sought = wanted(category, doc_id=doc_id, filter=read)
                way = search(*sought, 384, 1_000, 2_000, generation=1)
                rows = await connection.fetch(way.statement, query, 10, *way.arguments)
                best = await connection.fetch(BEST, query, category, doc_id, 2 if given else 1)
                right = {row["knowledge_id"] for row in best}
                found = {row["knowledge_id"] for row in rows}
                assert len(found) == len(right) > 0
                exact = category == SMALL or doc_id is not None
                assert len(found & right) >= (len(right) if exact else 9)


EXPIRE = """
    update global_knowledge set expires_at = now() - interval '1 second'
    where knowledge_id in (
        select knowledge_id from global_knowledge where coalesce(category = $2, true)
        order by embedding <=> $1 limit $3
    )
"""
BEST = """
    select knowledge_id from global_knowledge
    where coalesce(category = $2, true) and coalesce(doc_id = $3, true) and expires_at is null
        and substr(content, 6)::int % $4 = 0
    order by embedding <=> $1 limit 10
"""


@asynccontextmanager
async def undone(connection: "asyncpg.Connection[asyncpg.Record]") -> AsyncIterator[None]:
    """What happens meanwhile is rolled back, for the other tests."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


async def test_a_filter_changes_no_way(filled: str) -> None:
    await indexes.rebuild(filled, "ivfflat")
    query = clustered(1, 2)[0]
    read = read_filter({"metadata": {"k": {"ne": 1}}}, Limits(), knowledge=True)
    for category in (None, SMALL, LARGE):
        both = [
            await ways(
                filled,
                search(*wanted(category, filter=own), 384, 1_000, 2_000, generation=1),
                query,
                10,
            )
            for own in (EVERYTHING, read)
        ]
        assert both[0] == both[1], category
    middle = search(*wanted(MIDDLE, filter=read), 384, 1_000, 2_000, generation=1)
    assert await ways(filled, middle, query, 10) <= {
        ("Bitmap Heap Scan", "global_knowledge"),
        ("Bitmap Index Scan", "global_knowledge_category"),
        ("Bitmap Index Scan", "global_knowledge_newest_of_category"),
        ("Index Scan", "global_knowledge_category"),
        ("Index Scan", "global_knowledge_pkey"),
    }


async def test_a_document_is_read_alone(filled: str) -> None:
    async with connected(filled) as connection, undone(connection):
        await connection.execute("update global_knowledge set doc_id = substr(content, 6, 3)")
        await connection.execute("analyze global_knowledge")
        for category in (None, LARGE):
            way = search(*wanted(category, doc_id="123"), 384, generation=1)
            text = await connection.fetchval(
                f"explain (analyze, format json) {way.statement}",
                *(clustered(1, 2)[0], 10, *way.arguments),
            )
            read = {
                node.get("Index Name", node.get("Relation Name"))
                for node in nodes(json.loads(text)[0]["Plan"])
                if "Index Name" in node or "Relation Name" in node
            }
            assert "global_knowledge_document" in read
            assert not read & {"global_knowledge_category", indexes.INDEX}


async def test_as_many_come_back_as_there_are(filled: str) -> None:
    await indexes.rebuild(filled, "ivfflat")
    query = clustered(1, 4)[0]
    async with connected(filled) as connection:
        for category, rows in ((SMALL, 400), (MIDDLE, 1_600), ("none", 0)):
            way = search(*wanted(category), 384, exact=10, bits=20, generation=1)
            found = await connection.fetch(way.statement, query, 2_000, *way.arguments)
            assert len(found) == rows


async def test_knowledge_that_comes_after_a_rebuild_is_found(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    await fill(url, ["c"] * 3_000, 5)
    assert await indexes.rebuild(url, "ivfflat")
    driver = await open_driver(url)
    await driver.store_global_knowledge("Descale the kettle with lemon.", "kitchen")
    for category in (None, "kitchen"):
        found = await driver.recall_global_knowledge("kettle lemon", 1, category)
        assert found[0].content == "Descale the kettle with lemon."


async def test_a_rebuild_waits_for_nobody_and_nobody_for_it(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    await fill(url, ["c"] * 4_000, 6)
    driver = await open_driver(url, timeout=5.0)
    rebuilding = asyncio.create_task(indexes.rebuild(url, "ivfflat"))
    stored = []
    while not rebuilding.done():
        stored.append(await driver.store_global_knowledge(f"kettle {uuid4()}", "kitchen"))
        assert len(await driver.recall_global_knowledge("kettle", 10)) == 10
    assert await rebuilding
    assert stored
    async with connected(url) as connection:
        state = await indexes.inspect(connection, "ivfflat", count=True)
        assert await connection.fetchval("select count(*) from global_knowledge") == state.rows
    assert (state.lists, state.valid, state.stale) == (indexes.lists_for(4_000), True, None)
    found = await driver.recall_global_knowledge(stored[-1].content, 1)
    assert found == [stored[-1]] or found[0].knowledge_id == stored[-1].knowledge_id


async def test_only_one_rebuilds_at_a_time(filled: str) -> None:
    done = await asyncio.gather(*(indexes.rebuild(filled, "ivfflat") for _ in range(3)))
    assert sorted(done) == [False, False, True]


@pytest.mark.parametrize(
    ("held", "left"), [("row exclusive", "_new"), ("access share", "_old")], ids=["build", "drop"]
)
async def test_an_interrupted_rebuild_is_told_and_cleaned_up(
    new_database: NewDatabase, held: str, left: str
) -> None:
    url = await new_database()
    await fill(url, ["c"] * 3_000, 7)
    async with connected(url) as connection:
        async with connected(url) as holder, holder.transaction():
            # Somebody's open transaction holds a concurrent build or drop until it is over.
            await holder.execute(f"lock table global_knowledge in {held} mode")
            who = holder.get_server_pid()
            rebuilding = asyncio.create_task(indexes.rebuild(url, "hnsw"))
            while not await connection.fetchval(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where application_name = 'memory-driver-index'"
                " and $1 = any(pg_blocking_pids(pid))",
                who,
            ):
                assert not rebuilding.done()
                await asyncio.sleep(0.05)
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
                await rebuilding
        state = await indexes.inspect(connection, "ivfflat")
        assert state.leftovers == (indexes.INDEX + left,)
        assert "left an index behind" in str(state.stale)
        assert await indexes.rebuild(url, "ivfflat")
        assert (await indexes.inspect(connection, "ivfflat")).stale is None


async def health_after_a_look(driver: PgvectorDriver, seconds: float = 60) -> Any:
    """The health once the index was looked at, and rebuilt where that is due."""
    async with asyncio.timeout(seconds):
        while "indexes" not in (health := await driver.health_check()).facts:
            await asyncio.sleep(0.02)
    return health


async def test_health_tells_of_an_outgrown_index_and_of_the_wrong_kind(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    healthy = await health_after_a_look(await open_driver(url))
    assert (healthy.status, healthy.detail) == ("ok", None)
    assert healthy.facts["indexes"][indexes.INDEX]["kind"] == "ivfflat"
    other = await health_after_a_look(await open_driver(url, index="hnsw"))
    assert other.status == "degraded"
    assert "DATABASE_INDEX is hnsw" in str(other.detail)
    await fill(url, ["c"] * 9_000, 8)
    outgrown = await health_after_a_look(await open_driver(url))
    assert outgrown.status == "degraded"
    assert "outgrown" in str(outgrown.detail)
    assert not any(map(str.isdigit, str(outgrown.detail)))  # callers without a key read it


async def test_a_stale_index_is_rebuilt_by_itself_where_that_is_allowed(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    driver = await open_driver(await new_database(), index="hnsw", index_rebuild=True)
    async with asyncio.timeout(60):
        while (await health_after_a_look(driver)).status != "ok":
            await asyncio.sleep(0.05)
    assert (await driver.health_check()).facts["indexes"][indexes.INDEX]["kind"] == "hnsw"


class WideModel(Embedder):
    """The real model's vectors six times over, as a model of 2,304 dimensions gives them."""

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = "wide/model", 2_304, model.max_tokens
        self._model = model

    async def open(self) -> None:
        await self._model.open()

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return np.tile(await self._model.embed_query(text), 6) / np.float32(6**0.5)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.tile(await self._model.embed(texts), (1, 6)) / np.float32(6**0.5)


async def test_a_model_of_more_than_2000_dimensions_is_served(
    postgres: EmbeddedPostgres, embedder: Embedder
) -> None:
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute("create database wide")
    await admin.close()
    url = database_url(postgres, "wide")
    wide = WideModel(embedder)
    await migrations.upgrade(url, wide.dimension)
    settings = DatabaseSettings(url=SecretStr(url))
    for _ in range(2):  # the second start finds the same model
        async with PgvectorDriver(settings, wide, Limits()) as driver:
            await driver.store("ada", "Ada has a kettle of copper.")
            await driver.store("ada", "The train to Lyon leaves at night.")
            await driver.store_global_knowledge("Clean a kettle with lemon.", "house")
            await driver.store_global_knowledge("Basil likes the sun.", "garden")
            found = await driver.recall("ada", query="What does she boil water in?", top_k=1)
            assert found[0].content == "Ada has a kettle of copper."
            for kind in KINDS:
                assert await indexes.rebuild(url, kind)
                for category in (None, "house"):
                    known = await driver.recall_global_knowledge("dirty kettle", 1, category)
                    assert known[0].content == "Clean a kettle with lemon."
    async with connected(url) as connection:
        way = search(*wanted(), wide.dimension, exact=0, bits=0, generation=1)
        query = await wide.embed_query("kettle")
        assert len(await connection.fetch(way.statement, query, 3, *way.arguments)) == 3
