"""A reranker that fails: nobody waits for long, and it is told once."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from structlog.typing import EventDict

from app.reranking import Reranking, build_reranking
from app.settings import RerankSettings
from tests.reranking.endpoint import Endpoint, Raw, copper

TEXTS = ["a pan of steel", "copper copper"]
SCORES = [copper(text) for text in TEXTS]
FAILED: Raw = (500, {}, {"message": "kettle"})


@asynccontextmanager
async def reranking(url: str, **more: Any) -> AsyncIterator[Reranking]:
    """What the settings give, open."""
    built = build_reranking(RerankSettings(url=url, **{"timeout": 5.0, **more}))
    assert built is not None
    await built.open()
    try:
        yield built
    finally:
        await built.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reranker that fails is tried again at once."""
    monkeypatch.setattr("app.reranking.reranking.PAUSE", 0.0)


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    """What is logged about backends."""
    was = structlog.get_config()
    structlog.configure(cache_logger_on_first_use=False)
    with capture_logs() as captured:
        yield captured
    structlog.configure(**was)


def told(logs: Sequence[EventDict]) -> list[tuple[str, str]]:
    return [
        (each["event"], each.get("reason", ""))
        for each in logs
        if each.get("backend") == "reranker"
    ]


def counted(outcome: str) -> float:
    name = "memory_driver_rerankings_total"
    return REGISTRY.get_sample_value(name, {"outcome": outcome}) or 0.0


async def test_nothing_is_built_where_nothing_is_set() -> None:
    assert build_reranking(RerankSettings()) is None


async def test_scores_come_and_are_counted(reranker: Endpoint) -> None:
    before = counted("reranked")
    async with reranking(reranker.url) as built:
        assert await built.scores("what?", TEXTS) == SCORES
        assert (built.trouble, built.facts()) == (None, {"kind": "tei", "failing": None})
    assert counted("reranked") == before + 1


async def test_what_is_too_slow_has_no_scores(reranker: Endpoint) -> None:
    reranker.traps = [30.0]
    before = counted("failed")
    async with reranking(reranker.url, timeout=0.05) as built:
        assert await built.scores("what?", TEXTS) is None
        while reranker.running:
            await asyncio.sleep(0.01)
    assert counted("failed") == before + 1


async def test_an_answer_that_drips_is_too_slow(reranker: Endpoint) -> None:
    """Each byte comes within the limit; all of them do not."""
    server = await asyncio.start_server(_drip, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with reranking(url, timeout=0.2) as built:
        assert await built.scores("what?", TEXTS) is None
    server.close()


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    try:
        while not reader.at_eof():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)
    except ConnectionError:
        pass
    writer.close()


async def test_one_failure_is_no_outage(reranker: Endpoint, logs: list[EventDict]) -> None:
    async with reranking(reranker.url) as built:
        for _ in range(3):
            reranker.traps = [FAILED, FAILED]
            assert await built.scores("what?", TEXTS) is None
            assert await built.scores("what?", TEXTS) is None
            assert built.trouble is None
            assert await built.scores("what?", TEXTS) == SCORES
    assert told(logs) == []


async def test_an_outage_is_told_once_each_way(
    reranker: Endpoint, logs: list[EventDict], patient: None
) -> None:
    reranker.always = FAILED
    async with reranking(reranker.url) as built:
        for _ in range(10):
            assert await built.scores("what?", TEXTS) is None
        reason = "the reranker answered (status 500)"
        assert built.trouble == reason
        assert built.facts()["failing"] == reason
        assert told(logs) == [("backend_away", reason)]
        reranker.always = 0.0
        for _ in range(3):
            assert await built.scores("what?", TEXTS) == SCORES
        assert built.trouble is None
    assert told(logs) == [("backend_away", reason), ("backend_back", "")]
    assert "kettle" not in str(logs)


async def test_nobody_waits_for_a_reranker_that_fails(reranker: Endpoint) -> None:
    reranker.always = FAILED
    before = counted("skipped")
    async with reranking(reranker.url) as built:
        for _ in range(20):
            assert await built.scores("what?", TEXTS) is None
    assert len(reranker.bodies) == 3
    assert counted("skipped") == before + 17


async def test_after_a_while_one_caller_tries_it_again(
    reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    reranker.always = FAILED
    async with reranking(reranker.url) as built:
        monkeypatch.setattr("app.reranking.reranking.PAUSE", 0.0)
        for _ in range(3):
            await built.scores("what?", TEXTS)
        monkeypatch.setattr("app.reranking.reranking.PAUSE", 60.0)
        reranker.always = 0.05
        answers = await asyncio.gather(*(built.scores("what?", TEXTS) for _ in range(8)))
        assert answers == [SCORES, *[None] * 7]
        assert len(reranker.bodies) == 4
        assert await built.scores("what?", TEXTS) == SCORES


async def test_closed_and_opened_again_it_knows_of_no_failure(reranker: Endpoint) -> None:
    reranker.always = FAILED
    async with reranking(reranker.url) as built:
        for _ in range(3):
            await built.scores("what?", TEXTS)
        assert built.trouble is not None
        await built.close()
        await built.open()
        assert built.trouble is None
        reranker.always = 0.0
        assert await built.scores("what?", TEXTS) == SCORES


async def test_a_caller_who_leaves_is_no_failure(reranker: Endpoint, logs: list[EventDict]) -> None:
    reranker.always = 30.0
    before = counted("failed")
    async with reranking(reranker.url) as built:
        for n in range(1, 6):
            call = asyncio.create_task(built.scores("what?", TEXTS))
            while len(reranker.bodies) < n:
                await asyncio.sleep(0.01)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert built.trouble is None
    assert (counted("failed"), told(logs)) == (before, [])
