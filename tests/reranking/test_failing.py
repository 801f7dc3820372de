"""Drivers whose reranker fails, and what a cache keeps of their answers."""

from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Recalled
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.reranking import Reranking, build_reranking
from app.settings import (
    CacheSettings,
    Limits,
    RerankSettings,
)
from app.wrappers.cached import CachedDriver, new_store
from tests.reranking.conftest import Open
from tests.reranking.endpoint import Endpoint, copper
from tests.reranking.talk import QUERY, TALK, contents, say, scores, was_degraded

FAILURES: dict[str, Any] = {
    "500": (500, {}, {"message": "no"}),
    "too few": (200, {}, [{"index": 0, "score": 1.0}]),
    "no number": (200, {}, b'[{"index": 0, "score": NaN}]'),
    "no JSON": (200, {}, b"<html>"),
    "cut": None,
    "slow": 30.0,
}


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
async def test_without_scores_the_answer_is_as_it_was_ranked_and_says_so(
    open_driver: Open, reranker: Endpoint, failure: Any
) -> None:
    seconds = 0.1 if failure == 30.0 else 5.0
    reranking = build_reranking(RerankSettings(url=reranker.url, timeout=seconds))
    assert reranking is not None
    reranker.traps = [failure]
    async with open_driver(None) as plain, open_driver(reranking) as driver:
        for each in (plain, driver):
            await say(each, *TALK)
        ranked = await plain.recall("ada", query=QUERY, top_k=3)
        found = await driver.recall("ada", query=QUERY, top_k=3)
        again = await driver.recall("ada", query=QUERY, top_k=3)
    assert contents(found) == contents(ranked)
    assert scores(found) == pytest.approx(scores(ranked), abs=1e-6)
    assert (was_degraded(found), was_degraded(again)) == (True, False)
    assert contents(again) == sorted(TALK, key=copper, reverse=True)[:3]
    await reranking.close()


async def test_health_is_degraded_while_the_reranker_fails(
    driver: RecordDriver, reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reranking.reranking.PAUSE", 0.0)
    await say(driver, *TALK)
    health = await driver.health_check()
    assert (health.status, health.facts["reranking"]["failing"]) == ("ok", None)
    reranker.always = (503, {}, {"message": "busy"})
    for _ in range(3):
        await driver.recall("ada", query=QUERY)
    health = await driver.health_check()
    reason = "the reranker answered (status 503)"
    assert (health.status, health.detail) == ("degraded", f"recalls are not reranked: {reason}")
    assert health.facts["reranking"] == {"kind": "tei", "failing": reason}
    reranker.always = 0.0
    await driver.recall("ada", query=QUERY)
    assert (await driver.health_check()).status == "ok"


async def test_without_a_reranker_health_does_not_speak_of_one(open_driver: Open) -> None:
    async with open_driver(None) as driver:
        assert "reranking" not in (await driver.health_check()).facts


async def test_a_cache_keeps_the_reranked_answer(
    embedder: Embedder, reranking: Reranking, reranker: Endpoint
) -> None:
    inner = InMemoryDriver(embedder, Limits(), reranking=reranking)
    async with CachedDriver(inner, new_store(CacheSettings()), "test", Limits()) as driver:
        await say(driver, *TALK)
        first, second = [await driver.recall("ada", query=QUERY, top_k=3) for _ in range(2)]
    assert list(first) == list(second)
    assert isinstance(second, Recalled)
    assert second.cached
    assert contents(second) == sorted(TALK, key=copper, reverse=True)[:3]
    assert len(reranker.bodies) == 1


async def test_a_cache_keeps_no_answer_that_lacks_the_reranker(
    embedder: Embedder, reranking: Reranking, reranker: Endpoint
) -> None:
    reranker.traps = [(500, {}, {})]
    inner = InMemoryDriver(embedder, Limits(), reranking=reranking)
    async with CachedDriver(inner, new_store(CacheSettings()), "test", Limits()) as driver:
        await say(driver, *TALK)
        first, second = [await driver.recall("ada", query=QUERY, top_k=3) for _ in range(2)]
    assert [was_degraded(first), was_degraded(second)] == [True, False]
    assert contents(second) == sorted(TALK, key=copper, reverse=True)[:3]
    assert isinstance(second, Recalled)
    assert not second.cached
