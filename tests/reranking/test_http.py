"""Endpoints of the three forms, and all that can be wrong with one."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from app.errors import DriverError, DriverUnavailable, MemoryServiceError
from app.reranking.http import HttpReranker
from app.settings import RerankSettings
from tests.reranking.endpoint import Endpoint, copper

KEY = "sk-secret"
TEXTS = ["a pan of steel", "copper copper", "a kettle of copper"]


def settings(url: str, **more: Any) -> RerankSettings:
    return RerankSettings(url=url, **{"api_key": SecretStr(KEY), "timeout": 5.0, **more})


@asynccontextmanager
async def asked(url: str, **more: Any) -> AsyncIterator[HttpReranker]:
    """A client of the endpoint, closed at the end."""
    client = HttpReranker(settings(url, **more))
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def test_tei_is_asked_to_cut_what_is_too_long_and_for_no_logits(reranker: Endpoint) -> None:
    async with asked(reranker.url) as client:
        found = await client.scores("what?", TEXTS)
    assert found == [copper(text) for text in TEXTS]
    assert reranker.bodies == [
        {"query": "what?", "texts": TEXTS, "raw_scores": False, "truncate": True}
    ]


async def test_jina_is_asked_for_every_score_and_no_text(reranker: Endpoint) -> None:
    async with asked(reranker.url, form="jina", name="jina-reranker-m0") as client:
        found = await client.scores("what?", TEXTS)
    assert found == [copper(text) for text in TEXTS]
    assert reranker.bodies == [
        {
            "model": "jina-reranker-m0",
            "query": "what?",
            "documents": TEXTS,
            "top_n": 3,
            "return_documents": False,
        }
    ]


async def test_cohere_is_asked_for_nothing_that_it_would_refuse(reranker: Endpoint) -> None:
    async with asked(reranker.url, form="cohere", name="rerank-v3.5") as client:
        found = await client.scores("what?", TEXTS)
    assert found == [copper(text) for text in TEXTS]
    assert reranker.bodies == [
        {"model": "rerank-v3.5", "query": "what?", "documents": TEXTS, "top_n": 3}
    ]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "POST /rerank HTTP/1.1"),
        ("/", "POST /rerank HTTP/1.1"),
        ("/rerank", "POST /rerank HTTP/1.1"),
        ("/v2/rerank", "POST /v2/rerank HTTP/1.1"),
        ("/v1", "POST /v1/rerank HTTP/1.1"),
    ],
)
async def test_the_address_may_have_the_path_or_not(
    reranker: Endpoint, path: str, line: str
) -> None:
    async with asked(f"{reranker.url}{path}") as client:
        await client.scores("what?", TEXTS)
    assert reranker.lines == [line]


async def test_the_key_is_sent_and_never_told(reranker: Endpoint) -> None:
    reranker.traps = [(401, {}, {"message": f"{KEY} is wrong"})]
    async with asked(reranker.url) as client:
        with pytest.raises(DriverError) as refused:
            await client.scores("what?", TEXTS)
        await client.scores("what?", TEXTS)
    assert [head["authorization"] for head in reranker.heads] == [f"bearer {KEY}"] * 2
    assert "MEMORY_RERANK_API_KEY" in refused.value.reason
    assert KEY not in f"{refused.value.reason} {refused.value} {settings(reranker.url)}"


async def test_no_key_is_sent_where_there_is_none(reranker: Endpoint) -> None:
    async with asked(reranker.url, api_key=None) as client:
        await client.scores("what?", TEXTS)
    assert "authorization" not in reranker.heads[0]


async def test_logits_become_scores_in_the_same_order(reranker: Endpoint) -> None:
    logits = dict(zip(TEXTS, [-800.0, 800.0, 0.0], strict=True))
    reranker.score = logits.__getitem__
    async with asked(reranker.url, form="jina", name="llama.cpp") as client:
        assert await client.scores("what?", TEXTS) == [0.0, 1.0, 0.5]


async def test_whole_numbers_are_scores_too(reranker: Endpoint) -> None:
    reranker.score = lambda text: int("copper" in text)
    async with asked(reranker.url) as client:
        assert await client.scores("what?", TEXTS) == [0, 1, 1]


async def test_texts_that_are_sent_back_do_no_harm(reranker: Endpoint) -> None:
    long = ["copper " * 6_000, "steel " * 6_000]

    def with_texts(answer: Any) -> Any:
        for item in answer["results"]:
            item["document"] = {"text": long[item["index"]]}
        return answer

    reranker.change = with_texts
    async with asked(reranker.url, form="jina", name="vllm") as client:
        assert await client.scores("what?", long) == [copper(text) for text in long]


def one(index: Any, score: Any) -> dict[str, Any]:
    return {"index": index, "score": score}


WRONG: dict[str, Any] = {
    "too few": [one(0, 0.1), one(1, 0.2)],
    "too many": [one(n, 0.1) for n in range(4)],
    "none": [],
    "twice the same": [one(0, 0.1), one(1, 0.2), one(1, 0.2)],
    "an index beyond the texts": [one(0, 0.1), one(1, 0.2), one(3, 0.2)],
    "an index before the texts": [one(0, 0.1), one(1, 0.2), one(-1, 0.2)],
    "an index that is a text": [one("0", 0.1), one("1", 0.2), one("2", 0.2)],
    "an index that is true": [one(0, 0.1), one(True, 0.2), one(2, 0.2)],
    "a score that is a text": [one(0, "0.1"), one(1, 0.2), one(2, 0.2)],
    "a score that is true": [one(0, True), one(1, 0.2), one(2, 0.2)],
    "a score that is null": [one(0, None), one(1, 0.2), one(2, 0.2)],
    "a score that is no number": b'[{"index":0,"score":NaN},{"index":1,"score":0},'
    b'{"index":2,"score":0}]',
    "a score without end": b'[{"index":0,"score":1e999},{"index":1,"score":0},'
    b'{"index":2,"score":0}]',
    "a whole number without end": b'[{"index":0,"score":1%s},{"index":1,"score":0},'
    b'{"index":2,"score":0}]' % (b"0" * 400),
    "more digits than Python reads": b'[{"index":0,"score":%s}]' % (b"9" * 5_000),
    "no score": [{"index": 0}, {"index": 1}, {"index": 2}],
    "numbers": [0.1, 0.2, 0.3],
    "a number": 0.5,
    "null": None,
    "an object without results": {"scores": [0.1, 0.2, 0.3]},
    "results that are no list": {"results": {"0": 0.1, "1": 0.2, "2": 0.3}},
    "no JSON": b"<html>busy</html>",
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "brackets without end": b"[" * 100_000,
}


@pytest.mark.parametrize("answer", WRONG.values(), ids=WRONG)
async def test_an_answer_that_makes_no_sense_is_an_error(reranker: Endpoint, answer: Any) -> None:
    reranker.traps = [(200, {}, answer)]
    async with asked(reranker.url) as client:
        with pytest.raises(DriverError):
            await client.scores("what?", TEXTS)
        assert await client.scores("what?", TEXTS) == [copper(text) for text in TEXTS]


@pytest.mark.parametrize("status", [204, 301, 400, 403, 404, 413, 422, 424, 429, 500, 503])
async def test_another_status_is_an_error_and_not_asked_again(
    reranker: Endpoint, status: int
) -> None:
    reranker.traps = [(status, {}, {"message": "no"})] if status != 204 else [(204, {}, b"")]
    async with asked(reranker.url) as client:
        with pytest.raises(DriverError) as refused:
            await client.scores("what?", TEXTS)
    assert str(status) in refused.value.reason or status == 204
    assert len(reranker.bodies) == 1


async def test_an_answer_without_end_is_given_up(
    reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reranking.http.LARGEST", 100_000)
    reranker.traps = [(200, {"Content-Length": "100000000"}, b" " * 200_000)]
    async with asked(reranker.url) as client:
        with pytest.raises(DriverError) as refused:
            await client.scores("what?", TEXTS)
        assert "100000 bytes" in refused.value.reason
        assert await client.scores("what?", TEXTS) == [copper(text) for text in TEXTS]


async def test_a_compressed_answer_is_not_unfolded(reranker: Endpoint) -> None:
    reranker.traps = [(200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")]
    async with asked(reranker.url) as client:
        with pytest.raises(DriverError) as refused:
            await client.scores("what?", TEXTS)
    assert "compressed" in refused.value.reason
    assert reranker.heads[0]["accept-encoding"] == "identity"


async def test_a_cut_connection_is_an_outage_and_the_next_call_works(reranker: Endpoint) -> None:
    reranker.traps = [0.0, None]
    async with asked(reranker.url) as client:
        await client.scores("what?", TEXTS)
        with pytest.raises(DriverUnavailable):
            await client.scores("what?", TEXTS)
        assert await client.scores("what?", TEXTS) == [copper(text) for text in TEXTS]


async def test_an_answer_that_stops_in_its_middle_is_an_outage(reranker: Endpoint) -> None:
    reranker.traps = [(200, {"Content-Length": "1000"}, b"[]")]
    async with asked(reranker.url, timeout=0.2) as client:
        with pytest.raises(DriverUnavailable):
            await client.scores("what?", TEXTS)


async def test_an_endpoint_that_is_not_there_is_an_outage() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    async with asked(nowhere) as client:
        with pytest.raises(DriverUnavailable):
            await client.scores("what?", TEXTS)


async def test_a_caller_who_leaves_leaves_no_call_behind(reranker: Endpoint) -> None:
    reranker.traps = [30.0] * 3
    async with asked(reranker.url) as client:
        calls = [asyncio.create_task(client.scores("what?", TEXTS)) for _ in range(3)]
        while reranker.running < 3:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        while reranker.running or reranker.connections:
            await asyncio.sleep(0.01)
        assert all(call.cancelled() for call in calls)
        assert await client.scores("what?", TEXTS) == [copper(text) for text in TEXTS]


async def test_calls_under_way_are_bounded_and_no_slot_is_lost(
    reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reranking.http.AT_ONCE", 4)
    reranker.always = 0.02
    async with asked(reranker.url) as client:
        for _ in range(3):
            calls = [asyncio.create_task(client.scores("what?", TEXTS)) for _ in range(20)]
            await asyncio.sleep(0.01)
            for call in calls[::2]:
                call.cancel()
            answers = await asyncio.gather(*calls, return_exceptions=True)
            assert answers[1::2] == [[copper(text) for text in TEXTS]] * 10
    assert 1 <= reranker.most <= 4


async def test_a_caller_waits_for_a_slot_no_longer_than_for_an_answer(
    reranker: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.reranking.http.AT_ONCE", 1)
    reranker.traps = [30.0]
    async with asked(reranker.url, timeout=0.1) as client, asyncio.TaskGroup() as group:
        errors = [group.create_task(_error(client)) for _ in range(2)]
    assert all(isinstance(error.result(), DriverUnavailable) for error in errors)


async def _error(client: HttpReranker) -> MemoryServiceError | None:
    try:
        await client.scores("what?", TEXTS)
    except MemoryServiceError as error:
        return error
    return None


async def test_closing_ends_every_connection_and_it_may_be_opened_again(
    reranker: Endpoint,
) -> None:
    client = HttpReranker(settings(reranker.url))
    for _ in range(2):
        await client.open()
        assert await client.scores("what?", TEXTS) == [copper(text) for text in TEXTS]
        assert reranker.connections == 1
        await client.close()
        while reranker.connections:
            await asyncio.sleep(0.01)
