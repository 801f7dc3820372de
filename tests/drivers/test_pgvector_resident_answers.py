"""A recall that is asked again of a user who is kept: ranked once, until something changes."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest

from app.core.memory.records import Memory
from app.core.memory.requests import Recency
from app.drivers.pgvector import PgvectorDriver, recall
from app.drivers.pgvector.resident import MOST_ANSWERS
from app.embedding import Embedder
from app.ranking.candidates import Candidates
from app.ranking.evidence import Evidence, weigh
from app.ranking.query import Query
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import Chance, become_resident, execute, store


@pytest.fixture
def weighed() -> Iterator[list[str]]:
    """The queries that were weighed."""
    texts: list[str] = []

    def noted(query: Query, candidates: Candidates) -> Evidence:
        texts.append(query.text)
        return weigh(query, candidates)

    with patch.object(recall, "weigh", noted):
        yield texts


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def driver(url: str, open_driver: OpenDriver, embedder: Embedder) -> PgvectorDriver:
    """With a user who is kept."""
    driver = await open_driver(url, instead=Chance(embedder.dimension))
    await store(driver, "ada", "The kettle is copper.", "The kettle is steel.")
    await become_resident(driver, "ada")
    return driver


async def test_the_same_recall_is_ranked_once(driver: PgvectorDriver, weighed: list[str]) -> None:
    found = [await driver.recall("ada", query="steel kettle", explain=True) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert weighed == ["steel kettle"]
    found[0][0].metadata["changed"] = True
    assert await driver.recall("ada", query="steel kettle", explain=True) == found[1]
    by_words = [await driver.recall("ada", query="steel", use_vector=False) for _ in range(2)]
    assert by_words[0] == by_words[1]
    assert weighed == ["steel kettle"]


async def test_what_changed_meanwhile_is_in_the_answer(driver: PgvectorDriver, url: str) -> None:
    for use_vector in (True, False):

        async def found(use_vector: bool = use_vector) -> list[str]:
            memories = await driver.recall("ada", query="kettle", use_vector=use_vector)
            return sorted(memory.content for memory in memories)

        before = await found()
        await store(driver, "ada", "A kettle more.")
        assert await found() == sorted([*before, "A kettle more."])
        await execute(url, "delete from memories where content = 'A kettle more.'")
        assert await found() == before


async def test_another_recall_has_an_answer_of_its_own(driver: PgvectorDriver) -> None:
    await driver.store("ada", "It boils.", metadata={"date": "2026-05-02"})

    async def found(**asked: Any) -> list[Memory]:
        return await driver.recall("ada", query="the kettle of yesterday", **asked)

    async def of_yesterday(day: int) -> list[str]:
        as_of = datetime(2026, 5, day, 23, tzinfo=UTC)
        memories = await found(as_of=as_of, explain=True)
        return [memory.content for memory in memories if memory.explanation.date]  # type: ignore[union-attr]

    assert [await of_yesterday(day) for day in (3, 4, 3)] == [["It boils."], [], ["It boils."]]
    assert [len(await found(top_k=top_k)) for top_k in (1, 2, 1)] == [1, 2, 1]
    assert await found(conversation_id="other") == []
    assert (await found())[0].explanation is None


async def test_recency_counts_from_each_recalls_own_moment(
    driver: PgvectorDriver, weighed: list[str]
) -> None:
    for _ in range(2):
        await driver.recall("ada", query="kettle", recency=Recency(1.0, 0.1))
    assert weighed == ["kettle", "kettle"]


async def test_only_the_last_answers_are_kept(driver: PgvectorDriver, weighed: list[str]) -> None:
    queries = [f"kettle {n}" for n in range(MOST_ANSWERS + 1)]
    for query in [*queries, queries[-1], queries[0]]:
        await driver.recall("ada", query=query)
    assert weighed == [*queries, queries[0]]
