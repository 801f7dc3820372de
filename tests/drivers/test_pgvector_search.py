"""What a recall finds among many memories, and how little of them it reads for that."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
import pytest
import uuid_utils
from pgvector.asyncpg import register_vector
from pydantic import SecretStr

from app.core.memory.cursor import Cursor
from app.core.memory.filter import EVERYTHING, read_filter
from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql import recall as recall_sql
from app.drivers.pgvector.sql.scope import of_user
from app.embedding import Embedder, Vector
from app.ranking.outlines import packed, signs_of
from app.ranking.ranked import NEAREST
from app.settings import DatabaseSettings, Limits, RecallSettings
from tests.conftest import database_url
from tests.drivers.conftest import OpenDriver
from tests.drivers.plans import Node, of_memories, plans, rows_read

LARGE, MIDDLE, SMALL = "large", "middle", "user 7"
OVER = "over"
"""A user with one memory more than are all compared."""
SAME = "same"
"""All of their memories have one vector."""
SIZES = {LARGE: 6_000, MIDDLE: NEAREST, OVER: NEAREST + 1, SAME: 2_000} | {
    f"user {n}": 40 for n in range(50)
}
ROWS = sum(SIZES.values())
LONG, LONG_SIZE = "long", 2_970
"""A conversation of the large user."""

COLUMNS = (
    *("memory_id", "user_id", "conversation_id", "content", "tags", "created_at", "embedding"),
    "outline",
)
FILL = f"""
    insert into memories ({", ".join(COLUMNS)}, metadata, updated_at)
    select {", ".join(COLUMNS)}, '{{}}', created_at from given
"""  # noqa: S608

rng = np.random.default_rng(1)
CENTROIDS = rng.standard_normal((30, 384))
CENTROIDS /= np.linalg.norm(CENTROIDS, axis=1, keepdims=True)


def texts(n: int) -> Vector:
    """Vectors that lie in clusters, as those of texts do; 200 of 6,000 in each."""
    noise = rng.standard_normal((n, 384)) / np.sqrt(384)
    vectors = CENTROIDS[rng.integers(0, len(CENTROIDS), n)] + noise
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


QUERIES = texts(40)


def vectors_of(user: str) -> Vector:
    """Vectors of a user's memories, in the order that they are stored."""
    vectors = texts(SIZES[user])
    return np.repeat(vectors[:1], SIZES[user], axis=0) if user == SAME else vectors


class Given(Embedder):
    """The real model, but the queries "0" to "39" have the vectors of `QUERIES`."""

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        self._model = model

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return np.asarray(QUERIES[int(text)])

    async def embed(self, texts: Sequence[str]) -> Vector:
        return await self._model.embed(texts)


def row(user: str, n: int, vector: Vector) -> tuple[Any, ...]:
    """A memory as `COLUMNS`: in a conversation, with tags that a fifth and 99% of all have."""
    conversation = "short" if n % 200 == 3 else LONG if n % 2 and user == LARGE else f"c{n % 7}"
    created_at = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=n)
    signs = signs_of(vector[np.newaxis])
    return (
        UUID(str(uuid_utils.uuid7())),
        user,
        conversation,
        f"kettle {n}",
        [f"t{n % 5}", *(["most"] if n % 100 else [])],
        created_at,
        vector,
        packed(f"kettle {n}", {}, conversation, created_at, signs, "english"),
    )


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str, embedder: Embedder) -> str:
    """A database with a large user, one of just `NEAREST` and fifty small ones, vacuumed."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database filled template {template}")
    await admin.close()
    url = database_url(postgres, "filled")
    async with PgvectorDriver(DatabaseSettings(url=SecretStr(url)), embedder, Limits()):
        pass  # the database has its model from now on
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    await connection.execute(
        f"create temp table given as select {', '.join(COLUMNS)} from memories"  # noqa: S608
    )
    for user in SIZES:
        rows = [row(user, n, vector) for n, vector in enumerate(vectors_of(user))]
        await connection.copy_records_to_table("given", records=rows, columns=COLUMNS)
    await connection.execute(FILL)
    await connection.execute("vacuum analyze memories")
    await connection.close()
    return url


@pytest.fixture
async def by_vector(filled: str, open_driver: OpenDriver, embedder: Embedder) -> PgvectorDriver:
    """A driver that ranks by the cosine alone, for the queries "0" to "39"."""
    return await open_driver(
        filled,
        recall=RecallSettings(ranking="vector", resident_mb=0),
        instead=Given(embedder),
    )


Keep = Callable[[asyncpg.Record], bool]
NO_FILTER: tuple[dict[str, Any], Keep] = ({}, lambda row: True)
OF_LONG: tuple[dict[str, Any], Keep] = (
    {"conversation_id": LONG},
    lambda row: row["conversation_id"] == LONG,
)
OF_SHORT: tuple[dict[str, Any], Keep] = (
    {"conversation_id": "short"},
    lambda row: row["conversation_id"] == "short",
)
OF_C3: tuple[dict[str, Any], Keep] = (
    {"conversation_id": "c3"},
    lambda row: row["conversation_id"] == "c3",
)
SOME_TAGS: tuple[dict[str, Any], Keep] = (
    {"exclude_tags": ["t1", "t2", "t3"]},
    lambda row: row["tags"][0] in {"t0", "t4"},
)
MOST_TAGS: tuple[dict[str, Any], Keep] = (
    {"exclude_tags": ["most"]},
    lambda row: "most" not in row["tags"],
)
BOTH: tuple[dict[str, Any], Keep] = (
    {**OF_LONG[0], **SOME_TAGS[0]},
    lambda row: OF_LONG[1](row) and SOME_TAGS[1](row),
)


class Exact:
    """A user's memories, and the right answers by numpy."""

    def __init__(self, rows: list[asyncpg.Record]) -> None:
        self.rows = rows
        self.vectors = np.array([row["embedding"].to_numpy() for row in rows])

    def kept(self, keep: Keep, query: int) -> dict[str, float]:
        """The scores of the memories that the filter keeps, best first."""
        scores = (1 + self.vectors @ QUERIES[query]) / 2
        pairs = zip(self.rows, scores.tolist(), strict=True)
        kept = [(str(row["memory_id"]), score) for row, score in pairs if keep(row)]
        return dict(sorted(kept, key=lambda pair: pair[1], reverse=True))


async def exact(url: str, user: str) -> Exact:
    connection = await asyncpg.connect(url)
    await register_vector(connection)
    rows = await connection.fetch(
        "select memory_id, conversation_id, tags, embedding from memories where user_id = $1", user
    )
    await connection.close()
    assert len(rows) == SIZES[user]
    return Exact(rows)


async def recalled(
    driver: PgvectorDriver, user: str, query: int, filters: dict[str, Any]
) -> list[Memory]:
    return await driver.recall(user, query=str(query), top_k=10, **filters)


@pytest.mark.parametrize(
    ("user", "filters", "keep"),
    [
        (SMALL, *NO_FILTER),
        (SMALL, *SOME_TAGS),
        (SMALL, *OF_C3),
        (MIDDLE, *NO_FILTER),
        (MIDDLE, *OF_C3),
        (MIDDLE, *SOME_TAGS),
        (MIDDLE, *MOST_TAGS),
        (LARGE, *OF_SHORT),
        (LARGE, *MOST_TAGS),
    ],
)
async def test_what_is_not_too_many_is_searched_exactly(
    filled: str, by_vector: PgvectorDriver, user: str, filters: dict[str, Any], keep: Keep
) -> None:
    memories = await exact(filled, user)
    for query in range(5):
        right = memories.kept(keep, query)
        found = await recalled(by_vector, user, query, filters)
        # By score, and not by id: two that differ in the seventh decimal are a tie.
        best = pytest.approx(list(right.values())[:10], abs=2e-6)
        assert [memory.score for memory in found] == best
        assert [right[memory.memory_id] for memory in found] == best


@pytest.mark.parametrize(
    ("user", "filters", "keep", "queries"),
    [
        (LARGE, *NO_FILTER, 40),
        (LARGE, *OF_LONG, 20),
        (LARGE, *SOME_TAGS, 20),
        (LARGE, *BOTH, 20),
        (OVER, *NO_FILTER, 20),
        (LARGE, *OF_C3, 20),
    ],
)
async def test_of_many_memories_the_ten_best_are_found(
    filled: str,
    by_vector: PgvectorDriver,
    user: str,
    filters: dict[str, Any],
    keep: Keep,
    queries: int,
) -> None:
    memories = await exact(filled, user)
    shares = []
    for query in range(queries):
        right = memories.kept(keep, query)
        found = await recalled(by_vector, user, query, filters)
        assert len(found) == 10
        assert [memory.score for memory in found] == pytest.approx(
            [right[memory.memory_id] for memory in found], abs=2e-6
        )
        shares.append(len({m.memory_id for m in found} & set(list(right)[:10])) / 10)
    assert np.mean(shares) >= 0.99


CONTEXT = pytest.mark.parametrize("context", [False, True])
"""Whether vectors in context count."""


@pytest.mark.parametrize("user", [LARGE, SMALL, "nobody"])
async def test_a_users_outlines_come_from_the_index_alone(filled: str, user: str) -> None:
    for part, size in zip(recall_sql.WHOLE, (SIZES.get(user, 0), 0), strict=True):
        async with plans(filled) as running:
            nodes = await running.run(part.outlines, user, UUID(int=0), 1)
        (read,) = of_memories(nodes)
        assert read["Actual Rows"] == size
        assert rows_read(nodes) == 0


async def outlines_read(
    url: str, user: str, conversation: str | None, wanted: dict[str, Any]
) -> list[Node]:
    """The plan that the outlines of some of a user's memories are read by."""
    where = of_user(user, conversation, read_filter(wanted, Limits()))
    (part,) = recall_sql.some(where)
    async with plans(url) as running:
        return await running.run(part.outlines, *where.arguments, UUID(int=0), 1)


ON_METADATA: dict[str, Any] = {
    "metadata": {
        "n": {"gte": 3, "in": [5, "a", None, True]},
        "$1": {"ne": "x"},
        "k": {"lt": "z"},
        "other": {"exists": False},
    }
}
FILTERS: list[dict[str, Any]] = [
    {"tags": {"none": ["t1"]}},
    {"tags": {"any": ["t1"], "all": ["most"]}},
    ON_METADATA,
    {"occurred": {"from": "2024-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}},
    {"created": {"from": "2024-01-01T00:00:00Z", "to": "2025-01-01T00:00:00Z"}},
]


@pytest.mark.parametrize("wanted", [{}, *FILTERS])
async def test_a_conversations_outlines_are_those_of_its_rows_alone(
    filled: str, wanted: dict[str, Any]
) -> None:
    nodes = await outlines_read(filled, LARGE, LONG, wanted)
    (read,) = of_memories(nodes)
    assert read["Index Name"] == "memories_conversation"
    assert rows_read(nodes) == LONG_SIZE


@pytest.mark.parametrize("user", [LARGE, SMALL])
@pytest.mark.parametrize("wanted", FILTERS)
async def test_of_what_a_filter_excludes_only_the_users_own_is_read(
    filled: str, user: str, wanted: dict[str, Any]
) -> None:
    nodes = await outlines_read(filled, user, None, wanted)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    assert rows_read(nodes) == SIZES[user]


@CONTEXT
@pytest.mark.parametrize("windows", [False, True])
async def test_cosines_and_records_are_looked_up_by_the_primary_key(
    filled: str, context: bool, windows: bool
) -> None:
    ids = [row["memory_id"] for row in (await exact(filled, LARGE)).rows[:NEAREST]]
    async with plans(filled) as running:
        statement = recall_sql.COSINES[context, windows]
        cosines = await running.run(statement, LARGE, ids, QUERIES[0], 1)
        records = await running.run(recall_sql.RECORDS, LARGE, ids[:10])
    for nodes, looks in ((cosines, NEAREST), (records, 10)):
        assert "Seq Scan" not in {node["Node Type"] for node in nodes}
        (read,) = of_memories(nodes)
        assert read["Index Name"] in {"memories_pkey", "memories_id"}
        assert rows_read([read]) == read["Actual Loops"] == looks


@CONTEXT
async def test_to_keep_a_user_a_page_is_read_by_the_primary_key(filled: str, context: bool) -> None:
    page = (LARGE, UUID(int=0), 1_000)
    statements = {recall_sql.RECORDS_PAGE: page, recall_sql.VECTORS_PAGE[context]: (*page, 1)}
    for statement, arguments in statements.items():
        async with plans(filled) as running:
            nodes = await running.run(statement, *arguments)
        (read,) = of_memories(nodes)
        assert read["Index Name"] == "memories_pkey"
        assert rows_read(nodes) == 1_000


@CONTEXT
async def test_what_changed_is_found_by_the_user_and_the_transaction(
    filled: str, context: bool
) -> None:
    connection = await asyncpg.connect(filled)
    before = await connection.fetchval("select pg_current_snapshot()::text")
    changed = "update memories set tags = '{}' where user_id = 'user 9' and content = 'kettle 1'"
    await connection.execute(changed)
    await connection.close()
    async with plans(filled) as running:
        asked = await running.run(recall_sql.CHANGED, ["user 9"], [before])
        unseen = await running.run(recall_sql.UNSEEN[context], "user 9", before, 1)
    for nodes, looks in ((asked, 2), (unseen, 1)):  # the first mark, and what changed
        assert "Seq Scan" not in {node["Node Type"] for node in nodes}
        read = [node for node in nodes if node.get("Index Name") == "memory_changes_written"]
        assert [node["Actual Rows"] for node in read] == [1] * looks
    assert rows_read(unseen) == 1


@pytest.mark.parametrize("excluded", [None, ["t1"]])
async def test_a_large_user_gets_as_many_memories_as_are_asked_for(
    filled: str, embedder: Embedder, excluded: list[str] | None
) -> None:
    database = DatabaseSettings.model_validate({"url": filled})
    async with PgvectorDriver(database, embedder, Limits(top_k=2_000)) as driver:
        found = await driver.recall(LARGE, query="kettle", top_k=1_800, exclude_tags=excluded)
    assert len({memory.memory_id for memory in found}) == 1_800


@pytest.mark.parametrize("conversation", [False, True])
@pytest.mark.parametrize("user", [LARGE, SMALL])
async def test_newest_first_reads_no_more_than_it_gives(
    filled: str, user: str, conversation: bool
) -> None:
    where = of_user(user, "c4" if conversation else None, EVERYTHING)
    where.alive(datetime.now(UTC))
    statement = sql.newest(where, 5)
    async with plans(filled) as running:
        nodes = await running.run(statement, *where.arguments)
    (read,) = of_memories(nodes)
    assert read["Index Name"] == ("memories_conversation" if conversation else "memories_newest")
    assert rows_read(nodes) == 5


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("user", [LARGE, SMALL])
async def test_a_page_with_a_filter_reads_on_from_its_place(
    filled: str, user: str, after: bool
) -> None:
    """The memories are numbered from the oldest on; a fifth of them has the tag."""
    where = of_user(user, None, read_filter({"tags": {"any": ["t1"]}}, Limits()))
    where.alive(datetime.now(UTC))
    place = Cursor(datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=35), UUID(int=0))
    statement = sql.newest(where, 5, place if after else None)
    async with plans(filled) as running:
        nodes = await running.run(statement, *where.arguments)
    (read,) = of_memories(nodes)
    assert read["Index Name"] == "memories_newest"
    assert read["Actual Rows"] == 5
    assert rows_read(nodes) <= 25


async def test_writes_read_only_what_they_are_about(filled: str) -> None:
    """The statements that look up an import's or update's rows, and the turns before them."""
    connection = await asyncpg.connect(filled)
    some = await connection.fetch(
        "select * from memories where user_id = $1 and conversation_id = $2 limit 20", LARGE, LONG
    )
    await connection.close()
    users, ids = [LARGE] * 20, [memory["memory_id"] for memory in some]
    times, conversations = [memory["created_at"] for memory in some], [LONG] * 20
    never = datetime.max.replace(tzinfo=UTC)
    async with plans(filled) as running:
        there = await running.run(sql.THERE, users, ids, times)
        before = await running.run(sql.SAID_BEFORE, users, conversations, times, ids, 2, never)
        replaced = await running.run(
            sql.REPLACE,
            *(ids[0], LARGE, LONG, "kettle", "[]", "{}", times[0], never, None, 0, None, None),
            *(QUERIES[0], None, b"outline", None, 1, never),
        )
        forgotten = await running.run(
            sql.FORGET, never, LARGE, never.replace(year=2000), UUID(int=0), 100
        )
        deleted = await running.run(sql.DELETE_OF_USER, never, ids[:0], LARGE)
    read = (*there, *before, *replaced, *forgotten, *deleted)
    assert "Seq Scan" not in {node["Node Type"] for node in read}
    assert rows_read(forgotten) == 100
    assert rows_read(deleted) == 0
    assert rows_read(there) == 20
    assert rows_read(before) <= 40
    assert rows_read(replaced) <= 1


async def test_a_page_of_users_reads_one_row_of_each_and_counts_in_an_index(filled: str) -> None:
    now = datetime.now(UTC)
    async with plans(filled) as running:
        of_small = await running.run(sql.USERS, now, "user 1", None, 3)
        before_small = await running.run(sql.USERS, now, "user 1", "user 11", 9)
        of_large = await running.run(sql.USERS, now, LARGE, None, 1)
    for nodes, users, memories in ((of_small, 3, 120), (before_small, 2, 80), (of_large, 1, 6_000)):
        assert "Seq Scan" not in {node["Node Type"] for node in nodes}
        assert rows_read(nodes) <= users + 1
        entries = sum(node["Actual Loops"] * node["Actual Rows"] for node in of_memories(nodes))
        assert entries <= memories + users + 1


async def test_an_export_goes_through_every_page(filled: str, open_driver: OpenDriver) -> None:
    driver = await open_driver(filled)
    records = [record async for record in driver.export_records()]
    ids = {record.memory_id for record in records if isinstance(record, Memory)}
    assert len(ids) == len(records) == ROWS
