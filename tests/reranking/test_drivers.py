"""What reranking changes of a recall, on every backend's driver."""

from typing import Any

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory, Recalled
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.reranking import Reranking
from app.settings import (
    DatabaseSettings,
    Limits,
)
from tests.conftest import NewDatabase
from tests.reranking.conftest import Open
from tests.reranking.endpoint import Endpoint, copper
from tests.reranking.talk import QUERY, TALK, contents, say, scores


async def test_the_order_and_the_score_are_the_rerankers(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    await say(driver, *TALK)
    found = await driver.recall("ada", query=QUERY, top_k=3)
    by_copper = sorted(TALK, key=copper, reverse=True)
    assert contents(found) == by_copper[:3]
    assert scores(found) == [round(copper(text), 6) for text in by_copper[:3]]
    assert isinstance(found, Recalled)
    assert (found.driver, found.degraded) == (driver.name, False)
    (body,) = reranker.bodies
    assert body["query"] == QUERY
    assert sorted(body["texts"]) == sorted(TALK)


async def test_what_the_reranker_finds_equal_stays_as_it_was_ranked(
    open_driver: Open, reranking: Reranking, reranker: Endpoint
) -> None:
    reranker.score = lambda text: 0.5
    async with open_driver(None) as plain, open_driver(reranking) as driver:
        for each in (plain, driver):
            await say(each, *TALK)
        ranked = await plain.recall("ada", query=QUERY)
        found = await driver.recall("ada", query=QUERY)
        assert contents(found) == contents(ranked)
        assert set(scores(found)) == {0.5}


async def test_equal_texts_are_sent_once_and_stay_newest_first(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    stored = [await driver.store("ada", "a kettle of copper") for _ in range(3)]
    found = await driver.recall("ada", query="kettle")
    assert [memory.memory_id for memory in found] == [m.memory_id for m in stored[::-1]]
    assert reranker.bodies[0]["texts"] == ["a kettle of copper"]


async def test_the_reranker_reads_what_is_embedded(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    await driver.store("ada", "I like copper.", metadata={"speaker": "Bob"})
    await driver.recall("ada", query="kettle")
    assert reranker.bodies[0]["texts"] == ["Bob: I like copper."]


async def test_of_a_long_text_the_reranker_gets_the_beginning(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    beginning = "kettle " * 1_000
    content = f"{beginning}{'水' * 20_000}"
    await driver.store("ada", content)
    (found,) = await driver.recall("ada", query="kettle")
    assert found.content == content
    (sent,) = reranker.bodies[0]["texts"]
    assert content.startswith(sent)
    assert len(beginning) < len(sent) == 8_192


async def test_beyond_the_best_thirty_nothing_is_reranked_and_no_score_is_higher(
    open_driver: Open, reranking: Reranking, reranker: Endpoint
) -> None:
    batch = [NewMemory(user_id="ada", content=f"kettle {n} {'pan ' * n}") for n in range(40)]
    reranker.score = lambda text: text.count("pan") / 1_000
    async with open_driver(None) as plain, open_driver(reranking) as driver:
        for each in (plain, driver):
            await each.store_many(batch)
        ranked = contents(await plain.recall("ada", query="kettle", top_k=38))
        found = await driver.recall("ada", query="kettle", top_k=38)
    assert set(reranker.bodies[0]["texts"]) == set(ranked[:30])
    best = sorted(ranked[:30], key=reranker.score, reverse=True)
    assert contents(found) == [*best, *ranked[30:]]
    given = scores(found)
    assert given == sorted(given, reverse=True)
    assert max(given[30:]) <= round(reranker.score(best[-1]), 6)


async def test_thirty_are_reranked_however_few_are_wanted(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    batch = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(40)]
    await driver.store_many([*batch, NewMemory(user_id="bob", content="kettle")])
    reranker.score = lambda text: int(text.split()[1]) / 100
    found = await driver.recall("ada", query="kettle", top_k=1)
    asked = reranker.bodies[0]["texts"]
    assert len(asked) == 30
    assert contents(found) == [max(asked, key=reranker.score)]


async def test_filters_and_users_are_as_without_a_reranker(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    await say(driver, "bob's copper", user="bob")
    await driver.store("ada", "hidden copper", tags=["no"])
    await driver.store("ada", "a pan", "kitchen")
    await driver.store("ada", "a copper pan")
    found = await driver.recall("ada", "kitchen", "copper", exclude_tags=["no"])
    assert contents(found) == ["a pan"]
    assert [body["texts"] for body in reranker.bodies] == [["a pan"]]


@pytest.mark.parametrize("wanted", [{}, {"query": "copper", "use_vector": False}])
async def test_newest_first_and_by_words_nothing_is_reranked(
    driver: RecordDriver, reranker: Endpoint, wanted: dict[str, Any]
) -> None:
    await say(driver, "copper copper", "a pan of copper")
    found = await driver.recall("ada", **wanted)
    assert len(found) == 2
    assert reranker.bodies == []


async def test_where_nothing_is_found_nobody_is_asked(
    driver: RecordDriver, reranker: Endpoint
) -> None:
    assert await driver.recall("ada", query="copper") == []
    assert reranker.bodies == []


async def test_an_explanation_has_the_rerankers_score_beside_the_evidence(
    embedder: Embedder, new_database: NewDatabase, reranking: Reranking
) -> None:
    settings = DatabaseSettings(url=SecretStr(await new_database()))
    batch = [NewMemory(user_id="ada", content=f"kettle {n} of copper") for n in range(32)]
    async with (
        PgvectorDriver(settings, embedder, Limits()) as plain,
        PgvectorDriver(settings, embedder, Limits(), reranking=reranking) as driver,
    ):
        await plain.store_many(batch)
        ranked = await plain.recall("ada", query="kettle", top_k=32, explain=True)
        found = await driver.recall("ada", query="kettle", top_k=32, explain=True)
    points = {m.content: m.explanation.points for m in ranked if m.explanation is not None}
    why = {m.content: m.explanation for m in found if m.explanation is not None}
    assert {content: each.points for content, each in why.items()} == pytest.approx(points)
    assert all(m.explanation and m.explanation.rerank is None for m in ranked)
    assert [each.rerank for each in why.values()] == [0.2] * 30 + [None] * 2
