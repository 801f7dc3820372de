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

from app.core.memory.records import Memory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql import recall as recall_sql
from app.drivers.pgvector.sql.recall import Scope
from app.embedding import Embedder, Vector
from app.settings import DatabaseSettings, Limits, RecallSettings
from tests.conftest import database_url
from tests.drivers.conftest import OpenDriver
from tests.drivers.plans import of_memories, plans, rows_read

LARGE, MIDDLE, SMALL = "large", "middle", "user 7"
OVER = "over"
"""A user with one memory more than are all compared."""
TURNED = "turned"
"""Their oldest memories, the sample, are all about the same, and what came after is not."""
SAME = "same"
"""All of their memories have one vector."""
SIZES = {
    LARGE: 6_000,
    MIDDLE: recall_sql.EXACT,
    OVER: recall_sql.EXACT + 1,
    TURNED: 5_000,
    SAME: 2_000,
} | {f"user {n}": 40 for n in range(50)}
ROWS = sum(SIZES.values())
LONG, LONG_SIZE = "long", 2_970
"""A conversation of the large user; the others have less than `EXACT` memories."""

COLUMNS = (
    *("memory_id", "user_id", "conversation_id", "content", "tags", "created_at", "embedding"),
    "asks",
)
FILL = f"""
    insert into memories ({", ".join(COLUMNS)}, metadata, updated_at, occurred_at, words)
    select {", ".join(COLUMNS)}, '{{}}', created_at, created_at, to_tsvector('english', content)
    from given
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
    if user == TURNED:
        near = QUERIES[0] + 0.5 * vectors[: recall_sql.SAMPLE]
        vectors[: recall_sql.SAMPLE] = near / np.linalg.norm(near, axis=1, keepdims=True)
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
    return (
        UUID(str(uuid_utils.uuid7())),
        user,
        conversation,
        f"kettle {n}",
        [f"t{n % 5}", *(["most"] if n % 100 else [])],
        datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=n),
        vector,
        n % 9 == 0,
    )


@pytest.fixture(scope="module")
async def filled(postgres: EmbeddedPostgres, template: str) -> str:
    """A database with a large user, one of just `EXACT` memories and fifty small ones, vacuumed."""
    admin = await asyncpg.connect(database_url(postgres, "postgres"))
    await admin.execute(f"create database filled template {template}")
    await admin.close()
    url = database_url(postgres, "filled")
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
        filled, recall=RecallSettings(ranking="vector"), instead=Given(embedder)
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
        (LARGE, *OF_C3),
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
        (OVER, *SOME_TAGS, 20),
        (TURNED, *NO_FILTER, 20),
        (TURNED, *SOME_TAGS, 20),
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


def arguments(user: str, scope: Scope, lexical: Sequence[UUID] = ()) -> list[Any]:
    """Arguments of the ranking statements: the cosine, and 1 point for each of `lexical`."""
    conversation = LONG if scope.conversation else None
    tags = ["t1", "t2", "t3"] if scope.tags else []
    no_date_and_speaker: list[Any] = [None, None, 0.0, [], 0.0]
    words = [lexical, [1.0] * len(lexical)]
    return [user, conversation, tags, 10, QUERIES[0], *words, *no_date_and_speaker, 0.0, 0.0]


SCOPES = list(recall_sql.EVIDENCE)
CONTEXT = pytest.mark.parametrize("context", [False, True])
"""Whether vectors in context count."""


@CONTEXT
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_small_users_ranking_reads_only_their_memories(
    filled: str, scope: Scope, context: bool
) -> None:
    given = arguments(SMALL, scope)
    given[1] = "c3" if scope.conversation else None
    async with plans(filled) as running:
        nodes = await running.run(recall_sql.RANKED[context][scope], *given)
    assert of_memories(nodes)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    assert 0 < rows_read(nodes) <= SIZES[SMALL]


@CONTEXT
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_large_users_memories_are_counted_and_not_read_by_the_ranking_of_all(
    filled: str, scope: Scope, context: bool
) -> None:
    async with plans(filled) as running:
        nodes = await running.run(recall_sql.RANKED[context][scope], *arguments(LARGE, scope))
    assert nodes[0]["Actual Rows"] == 0
    (counted,) = of_memories(nodes)
    assert counted["Actual Rows"] == recall_sql.EXACT + 1
    assert rows_read(nodes) == 0


@CONTEXT
@pytest.mark.parametrize("scope", SCOPES)
async def test_a_large_users_candidates_come_from_the_index_alone(
    filled: str, scope: Scope, context: bool
) -> None:
    statement = recall_sql.RANKED_OF_MANY[context][scope]
    async with plans(filled) as running:
        nodes = await running.run(statement, *arguments(LARGE, scope))
    reading = of_memories(nodes)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    signs = [node for node in reading if node["Node Type"] == "Index Only Scan"]
    assert {(node["Index Name"], node["Heap Fetches"]) for node in signs} == {("memories_pkey", 0)}
    given = [node["Actual Rows"] for node in signs]
    if scope.conversation:
        assert given == [LONG_SIZE]
    elif scope.tags:  # two of five pass, so those within the radius are not enough
        sample, within, beyond = given
        assert (sample, within + beyond) == (recall_sql.SAMPLE, SIZES[LARGE])
    else:
        sample, within = given
        assert sample == recall_sql.SAMPLE
        assert within == pytest.approx(SIZES[LARGE] * recall_sql.WITHIN, rel=0.3)
    # By a whole key, so a loop looks at one row. With tags two of five pass: one look to know,
    # and one at what passed.
    rows = [node for node in reading if node not in signs]
    assert {node["Index Name"] for node in rows} <= {"memories_pkey", "memories_id"}
    looks = sum(node["Actual Loops"] for node in rows)
    nearest = recall_sql.NEAREST
    assert looks == (pytest.approx(nearest * 3.5, rel=0.15) if scope.tags else nearest)


Looked = tuple[list[float], float]
"""What the scans of the index give (the sample, those within the radius and those beyond it, if
they are looked at), and how many memories were looked up."""


async def looked_at(url: str, user: str, tags: list[str], top_k: int = 10) -> Looked:
    scope = Scope(conversation=False, tags=bool(tags))
    given = arguments(user, scope)
    given[2:4] = tags, top_k
    async with plans(url) as running:
        nodes = of_memories(await running.run(recall_sql.RANKED_OF_MANY[False][scope], *given))
    signs = [node for node in nodes if node["Node Type"] == "Index Only Scan"]
    looks = sum(node["Actual Loops"] for node in nodes if node not in signs)
    return [node["Actual Rows"] for node in signs], looks


@pytest.mark.parametrize("tags", [[], ["unheard"]])
async def test_what_is_beyond_the_radius_is_not_looked_at_when_enough_is_within(
    filled: str, tags: list[str]
) -> None:
    (_, within), looks = await looked_at(filled, LARGE, tags)
    assert within < SIZES[LARGE] / 5
    assert looks == recall_sql.NEAREST * (2 if tags else 1)


@pytest.mark.parametrize("tags", [[], ["unheard"]])
@pytest.mark.parametrize("user", [OVER, TURNED])
async def test_what_is_beyond_the_radius_is_looked_at_when_too_little_is_within(
    filled: str, user: str, tags: list[str]
) -> None:
    (_, within, beyond), looks = await looked_at(filled, user, tags)
    assert within < recall_sql.NEAREST < within + beyond
    assert looks == recall_sql.NEAREST * (2 if tags else 1)


@pytest.mark.parametrize("tags", [[], ["unheard"]])
async def test_memories_that_are_all_as_far_are_all_within_the_radius(
    filled: str, tags: list[str]
) -> None:
    given, looks = await looked_at(filled, SAME, tags)
    assert given == [recall_sql.SAMPLE, SIZES[SAME]]
    assert looks == recall_sql.NEAREST * (2 if tags else 1)


async def test_just_as_many_as_are_within_the_radius_are_enough(filled: str) -> None:
    (_, within), _ = await looked_at(filled, LARGE, [])
    top_k, rest = divmod(int(within), 4)
    exactly, looks = await looked_at(filled, LARGE, [], top_k)
    assert (len(exactly), looks) == (2, 4 * top_k)
    more, looks = await looked_at(filled, LARGE, [], top_k + 1)
    assert (len(more), looks) == (3, 4 * top_k + 4)
    assert 0 <= rest < 4


async def test_nearly_everything_excluded_by_tags_leaves_what_passes(filled: str) -> None:
    given, looks = await looked_at(filled, LARGE, ["most"])
    assert sum(given) == recall_sql.SAMPLE + SIZES[LARGE]
    assert looks == SIZES[LARGE] + SIZES[LARGE] // 100


async def test_of_a_user_without_memories_there_are_no_candidates(filled: str) -> None:
    given, looks = await looked_at(filled, "nobody", [])
    assert (sum(given), looks) == (0, 0)


@pytest.mark.parametrize("excluded", [None, ["t1"]])
async def test_a_large_user_gets_as_many_memories_as_are_asked_for(
    filled: str, embedder: Embedder, excluded: list[str] | None
) -> None:
    database = DatabaseSettings.model_validate({"url": filled})
    async with PgvectorDriver(database, embedder, Limits(top_k=2_000)) as driver:
        found = await driver.recall(LARGE, query="kettle", top_k=1_800, exclude_tags=excluded)
    assert len({memory.memory_id for memory in found}) == 1_800


async def test_memories_with_words_are_looked_up_beside_the_nearest(filled: str) -> None:
    memories = await exact(filled, LARGE)
    farthest = [UUID(memory_id) for memory_id in list(memories.kept(NO_FILTER[1], 0))[-50:]]
    scope = Scope(conversation=False, tags=False)
    async with plans(filled) as running:
        statement = recall_sql.RANKED_OF_MANY[False][scope]
        nodes = await running.run(statement, *arguments(LARGE, scope, farthest))
    assert rows_read(nodes) == recall_sql.NEAREST + len(farthest)
    assert max(n["Actual Loops"] for n in nodes if n["Node Type"] == "CTE Scan") == 1


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_large_scopes_memories_are_not_read_for_evidence(filled: str, scope: Scope) -> None:
    given = [*arguments(LARGE, scope)[:3], "kettle 17", "english"]
    async with plans(filled) as running:
        nodes = await running.run(recall_sql.EVIDENCE[scope], *given)
    assert "Seq Scan" not in {node["Node Type"] for node in of_memories(nodes)}
    (counted,) = of_memories(nodes)
    assert counted["Actual Rows"] == recall_sql.EXACT + 1
    assert rows_read(nodes) == 0


@pytest.mark.parametrize("scope", SCOPES)
async def test_the_words_of_a_large_scope_are_found_by_their_index(
    filled: str, scope: Scope
) -> None:
    given = [*arguments(LARGE, scope)[:3], "5995 5997 5999 unheard", "english"]
    async with plans(filled) as running:
        nodes = await running.run(recall_sql.EVIDENCE_OF_MANY[scope], *given)
    reading = of_memories(nodes)
    assert "Seq Scan" not in {node["Node Type"] for node in reading}
    assert "memories_words" in {node.get("Index Name") for node in reading}
    assert rows_read(nodes) < 50


async def test_a_frequent_word_is_looked_at_in_a_thousand_memories_only(filled: str) -> None:
    scope = Scope(conversation=False, tags=False)
    async with plans(filled) as running:
        nodes = await running.run(
            recall_sql.EVIDENCE_OF_MANY[scope], LARGE, None, [], "kettle", "english"
        )
    assert "Seq Scan" not in {node["Node Type"] for node in of_memories(nodes)}
    assert rows_read(nodes) <= recall_sql.HITS


@pytest.mark.parametrize("conversation", [False, True])
@pytest.mark.parametrize("user", [LARGE, SMALL])
async def test_by_words_alone_only_memories_with_one_are_read(
    filled: str, user: str, conversation: bool
) -> None:
    given: list[Any] = [user, "c4" if conversation else None, [], 10, "18 5996 unheard", "english"]
    async with plans(filled) as running:
        nodes = await running.run(sql.RECALL_BY_WORDS[conversation], *given)
    assert "Seq Scan" not in {node["Node Type"] for node in nodes}
    assert 1 <= rows_read(nodes) <= 2


@pytest.mark.parametrize("conversation", [False, True])
@pytest.mark.parametrize("user", [LARGE, SMALL])
async def test_newest_first_reads_no_more_than_it_gives(
    filled: str, user: str, conversation: bool
) -> None:
    given: list[Any] = [user, "c4" if conversation else None, [], 5]
    async with plans(filled) as running:
        nodes = await running.run(sql.RECALL_NEWEST[conversation], *given)
    (read,) = of_memories(nodes)
    assert read["Index Name"] == ("memories_conversation" if conversation else "memories_newest")
    assert rows_read(nodes) == 5


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
        before = await running.run(sql.SAID_BEFORE, users, conversations, times, ids, 2)
        replaced = await running.run(
            sql.REPLACE,
            *(ids[0], LARGE, LONG, "kettle", "[]", "{}", times[0], never, QUERIES[0], None),
            *(None, times[0], False, None, never, "english"),
        )
        deleted = await running.run(sql.DELETE_USER, LARGE, never.replace(year=2000))
    read = (*there, *before, *replaced, *deleted)
    assert "Seq Scan" not in {node["Node Type"] for node in read}
    assert rows_read(deleted) == 0
    assert rows_read(there) == 20
    assert rows_read(before) <= 40
    assert rows_read(replaced) <= 1


async def test_an_export_goes_through_every_page(filled: str, open_driver: OpenDriver) -> None:
    driver = await open_driver(filled)
    records = [record async for record in driver.export_records()]
    ids = {record.memory_id for record in records if isinstance(record, Memory)}
    assert len(ids) == len(records) == ROWS
