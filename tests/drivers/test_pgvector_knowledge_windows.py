"""Knowledge longer than the model reads: its windows in PostgreSQL, and how they are searched."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest

from app.core.memory.filter import read_filter
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql.knowledge import search as first_search
from app.drivers.pgvector.sql.knowledge_windows import search
from app.embedding import MOST_WINDOWS, Embedder, Vector, Windows
from app.errors import DriverError
from app.settings import Limits
from tests.conftest import NewDatabase, database_url
from tests.drivers.conftest import OpenDriver
from tests.drivers.test_pgvector_changed import run
from tests.drivers.test_pgvector_index import (
    COLUMNS,
    clustered,
    connected,
    remember_model,
    undone,
    wanted,
    ways,
)
from tests.drivers.watched import Watched

LONG = " ".join(["The minutes of the meeting go on about the roof and the lamps."] * 60)
FACT = "Mira keeps the spare key under the blue flowerpot."
QUESTION = "Where is the key to get into the house?"
SMALL, LARGE = "small", "large"
RECORDS = {SMALL: 100, LARGE: 900}
EACH = 4
"""Windows of each record beside its first vector."""
LATER = timedelta(seconds=1)


class Reading(Watched):
    """The real model, with its windows."""

    async def windows(self, text: str, prefix: str = "") -> Windows:
        return await self._model.windows(text, prefix)


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


async def count(url: str) -> int:
    """The windows that there are."""
    async with connected(url) as connection:
        found: int = await connection.fetchval("select count(*) from knowledge_windows")
    return found


@pytest.mark.parametrize(
    "statement",
    [
        "delete from global_knowledge",
        "truncate global_knowledge cascade",
    ],
)
async def test_whoever_deletes_knowledge_nothing_of_it_is_left(
    url: str, open_driver: OpenDriver, statement: str
) -> None:
    driver = await open_driver(url)
    await driver.store_global_knowledge(f"{LONG} {FACT}", "house")
    assert await count(url) > 2
    await run(url, statement)
    assert await count(url) == 0
    assert await driver.recall_global_knowledge(QUESTION) == []


async def test_what_changes_but_the_content_keeps_its_windows_without_embedding(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    driver = await open_driver(url, instead=reading)
    stored = await driver.store_global_knowledge(f"{LONG} {FACT}", "house")
    windows = await count(url)
    reading.texts.clear()
    await driver.update_knowledge(stored.knowledge_id, {"title": "Minutes", "category": "other"})
    assert reading.texts == []
    assert await count(url) == windows
    [found] = await driver.recall_global_knowledge(QUESTION, category="other")
    assert found.title == "Minutes"
    async with connected(url) as connection:
        categories = await connection.fetch("select distinct category from knowledge_windows")
    assert [row["category"] for row in categories] == ["other"]


@pytest.mark.parametrize("by", ["update", "import"])
async def test_a_content_that_is_replaced_leaves_no_windows(
    url: str, open_driver: OpenDriver, by: str
) -> None:
    driver = await open_driver(url)
    stored = await driver.store_global_knowledge(f"{LONG} {FACT}", "house")
    if by == "update":
        await driver.update_knowledge(stored.knowledge_id, {"content": "short"})
    else:
        later = replace(stored, content="short", updated_at=stored.updated_at + LATER)
        await driver.import_records([later])
    assert await count(url) == 0
    await driver.update_knowledge(stored.knowledge_id, {"content": f"{LONG} {FACT}"})
    assert await count(url) > 2


async def test_windows_that_others_store_meanwhile_go_with_the_version_that_they_are_of(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    slow, quick = await open_driver(url, instead=reading), await open_driver(url)
    first = await quick.store_global_knowledge("short", "house")
    second = replace(first, content=LONG, updated_at=first.updated_at + LATER)
    third = replace(first, content="another", updated_at=second.updated_at + LATER)
    reading.meanwhile = lambda: quick.import_records([second])
    await slow.import_records([third])
    assert reading.meanwhile is None
    assert await slow.get_knowledge(first.knowledge_id) == third
    assert await count(url) == 0


async def test_an_older_version_that_comes_later_leaves_no_windows(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    slow, quick = await open_driver(url, instead=reading), await open_driver(url)
    old = await quick.store_global_knowledge(f"{LONG} {FACT}", "house")
    await quick.delete_knowledge(old.knowledge_id)
    new = replace(old, content="short", updated_at=old.updated_at + LATER)
    reading.meanwhile = lambda: quick.import_records([new])
    await slow.import_records([old])
    assert reading.meanwhile is None
    assert await slow.get_knowledge(old.knowledge_id) == new
    assert await count(url) == 0


async def test_a_content_that_others_change_meanwhile_gets_its_windows_again(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    reading = Reading(embedder)
    slow, quick = await open_driver(url, instead=reading), await open_driver(url)
    first = await quick.store_global_knowledge(f"{LONG} {FACT}", "house")
    windows = await count(url)
    second = replace(first, content="short", updated_at=first.updated_at + LATER)
    third = replace(first, title="again", updated_at=second.updated_at + LATER)
    reading.meanwhile = lambda: quick.import_records([second])
    await slow.import_records([third])
    assert reading.meanwhile is None
    assert await slow.get_knowledge(first.knowledge_id) == third
    assert await count(url) == windows


async def test_a_batch_of_which_one_is_refused_leaves_no_windows(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    await run(url, "alter table global_knowledge add check (title is distinct from 'refused')")
    stored = await driver.store_global_knowledge(f"{LONG} {FACT}", "house")
    await driver.delete_knowledge(stored.knowledge_id)
    other = replace(stored, knowledge_id=str(UUID(int=1)), title="refused")
    with pytest.raises(DriverError):
        await driver.import_records([stored, other])
    assert await driver.get_knowledge(stored.knowledge_id) is None
    assert await count(url) == 0


async def test_whether_there_are_windows_is_told_with_the_first_vectors(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    query = clustered(1, 2)[0]

    async def told() -> set[bool]:
        rows = []
        async with connected(url) as connection:
            for more in ({}, {"category": "house"}, {"doc_id": "doc"}):
                way = first_search(*wanted(**more), 384, generation=1)
                rows += await connection.fetch(way.statement, query, 10, *way.arguments)
        return {row["has_windows"] for row in rows}

    await driver.store_global_knowledge(FACT, "house", doc_id="doc")
    assert await told() == {False}
    stored = await driver.store_global_knowledge(LONG, "house", doc_id="doc")
    assert await told() == {True}
    await driver.delete_knowledge(stored.knowledge_id)
    assert await told() == {False}


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str, embedder: Embedder) -> str:
    """A database with 1,000 records of five vectors each: 100 small, 900 large."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database windows template {template}")
    await admin.close()
    url = database_url(postgres, "windows")
    await remember_model(url, embedder)
    categories = [category for category, rows in RECORDS.items() for _ in range(rows)]
    start = datetime.now(UTC)
    ids = [UUID(int=n + 1) for n in range(len(categories))]
    async with connected(url) as connection:
        await connection.copy_records_to_table(
            "global_knowledge",
            columns=COLUMNS,
            records=[
                (
                    *(ids[n], category, f"fact {n}", None, "{}"),
                    *(start - timedelta(seconds=n), start - timedelta(seconds=n), vector),
                )
                for n, (category, vector) in enumerate(
                    zip(categories, clustered(len(categories), 1), strict=True)
                )
            ],
        )
        vectors = clustered(EACH * len(categories), 2)
        await connection.copy_records_to_table(
            "knowledge_windows",
            columns=["knowledge_id", "n", "category", "embedding"],
            records=[
                (ids[n // EACH], n % EACH + 1, categories[n // EACH], vector)
                for n, vector in enumerate(vectors)
            ],
        )
        await connection.execute("vacuum analyze global_knowledge, knowledge_windows")
    return url


KNOWLEDGE = {("Index Scan", "global_knowledge_pkey")}
"""How the records of those that were found are read."""


async def test_everything_is_searched_by_the_vector_index(filled: str) -> None:
    read = await ways(filled, search(*wanted(), 384, generation=1), clustered(1, 3)[0], 5)
    assert read - KNOWLEDGE == {("Index Scan", "knowledge_windows_embedding")}


async def test_few_windows_are_all_ranked(filled: str) -> None:
    every = await ways(
        filled, search(*wanted(), 384, exact=5_000, generation=1), clustered(1, 3)[0], 5
    )
    assert every - KNOWLEDGE == {("Seq Scan", "knowledge_windows")}
    small = await ways(filled, search(*wanted(SMALL), 384, generation=1), clustered(1, 3)[0], 5)
    assert {name for _, name in small - KNOWLEDGE} <= {
        "knowledge_windows_category",
        "knowledge_windows",
    }


async def test_a_large_category_is_searched_by_the_vector_index(filled: str) -> None:
    way = search(*wanted(LARGE), 384, category=1_000, generation=1)
    read = await ways(filled, way, clustered(1, 3)[0], 5)
    assert read - KNOWLEDGE == {("Index Scan", "knowledge_windows_embedding")}


@pytest.mark.parametrize("category", [None, SMALL, LARGE])
@pytest.mark.parametrize("exact", [False, True])
async def test_each_record_is_found_once_by_its_best_window(
    filled: str, category: str | None, exact: bool
) -> None:
    bound = 5_000 if exact else 0
    way = search(*wanted(category), 384, exact=bound, category=bound, generation=1)
    hits = 0
    async with connected(filled) as connection:
        for query in clustered(20, 4):
            rows = await connection.fetch(way.statement, query, 10, *way.arguments)
            scores = [row["score"] for row in rows]
            assert scores == sorted(scores, reverse=True)
            assert len({row["knowledge_id"] for row in rows}) == 10
            best = await connection.fetch(
                "select knowledge_id from knowledge_windows where $3::text is null"
                " or category = $3 group by knowledge_id"
                " order by min(embedding <=> $1) limit $2",
                query,
                10,
                category,
            )
            hits += len({row[0] for row in best} & {row["knowledge_id"] for row in rows})
    assert hits >= (200 if exact else 190)


@pytest.mark.parametrize("category", [None, SMALL, LARGE])
@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("given", [{}, {"metadata": {"even": True}}])
async def test_what_expired_or_is_filtered_out_uses_up_no_limit(
    filled: str, category: str | None, exact: bool, given: dict[str, Any]
) -> None:
    bound = 5_000 if exact else 0
    read = read_filter(given, Limits(), knowledge=True)
    query = clustered(1, 9)[0]
    async with connected(filled) as connection, undone(connection):
        await connection.execute(
            """
            update global_knowledge set doc_id = substr(content, 6, 1),
                metadata = json_build_object('even', substr(content, 6)::int % 2 = 0)
            """
        )
        await connection.execute(EXPIRE, query, category)
        for doc_id in (None, "4"):
            sought = wanted(category, doc_id=doc_id, filter=read)
            way = search(*sought, 384, exact=bound, category=bound, generation=1)
            rows = await connection.fetch(way.statement, query, 10, *way.arguments)
            best = await connection.fetch(BEST, query, category, doc_id, 2 if given else 1)
            right = {row["knowledge_id"] for row in best}
            found = {row["knowledge_id"] for row in rows}
            assert len(found) == len(right) > 0
            assert len(found & right) >= (len(right) if exact or doc_id else 9)


EXPIRE = """
    update global_knowledge set expires_at = now() - interval '1 second'
    where knowledge_id in (
        select knowledge_id from knowledge_windows where coalesce(category = $2, true)
        group by knowledge_id order by min(embedding <=> $1) limit 40
    )
"""
BEST = """
    select knowledge_id from knowledge_windows as windows
    join global_knowledge as record using (knowledge_id)
    where coalesce(record.category = $2, true) and coalesce(doc_id = $3, true)
        and expires_at is null and substr(content, 6)::int % $4 = 0
    group by knowledge_id order by min(windows.embedding <=> $1) limit 10
"""


async def test_a_filter_leaves_the_order_to_the_vector_index(filled: str) -> None:
    read = read_filter({"metadata": {"k": {"ne": 1}}}, Limits(), knowledge=True)
    for category in (None, LARGE):
        way = search(*wanted(category, filter=read), 384, exact=1_000, category=1_000, generation=1)
        seen = await ways(filled, way, clustered(1, 3)[0], 5)
        assert "Seq Scan" not in {kind for kind, _ in seen}
        of_windows = {name for _, name in seen if name.startswith("knowledge_windows")}
        assert of_windows == {"knowledge_windows_embedding"}


async def test_one_record_of_many_windows_keeps_no_other_from_being_found(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    """Every one of its windows is nearer than any of another record."""
    await remember_model(url, embedder)
    query = clustered(1, 5)[0]
    records: Sequence[UUID] = [UUID(int=n + 1) for n in range(10)]
    far = clustered(10, 6)
    async with connected(url) as connection:
        now = datetime.now(UTC)
        await connection.copy_records_to_table(
            "global_knowledge",
            columns=COLUMNS,
            records=[
                (one, "c", "text", None, "{}", now, now, far[n]) for n, one in enumerate(records)
            ],
        )
        rows: list[tuple[Any, ...]] = [(one, 1, "c", far[n]) for n, one in enumerate(records[9:])]
        for one in records[:9]:
            rows += [(one, n, "c", near(query, n)) for n in range(1, MOST_WINDOWS)]
        await connection.copy_records_to_table(
            "knowledge_windows",
            columns=["knowledge_id", "n", "category", "embedding"],
            records=rows,
        )
        for category in (None, "c"):
            way = search(*wanted(category), 384, 0, 0, generation=1)
            found = await connection.fetch(way.statement, query, 10, *way.arguments)
            assert {row["knowledge_id"] for row in found} == set(records)


def near(query: Vector, seed: int) -> Vector:
    vector = query + 0.01 * np.random.default_rng(seed).normal(size=query.shape)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
