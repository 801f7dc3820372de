"""Shared passes: what runs together, who goes first, who leaves, and who is refused."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from app.embedding.base import Vector
from app.embedding.batching import Lane
from app.embedding.engines.base import Engine, Prepared
from app.embedding.passes import Passes
from app.embedding.query_cache import QueryCache
from app.errors import EmbeddingQueueFull, ShuttingDown


class Slow(Engine):
    """A vector is its text's length and number; every pass waits until it may go on."""

    dimension = 2
    max_tokens = None

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.passes: list[list[str]] = []

    def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        if "unreadable" in texts:
            raise UnicodeError
        return [Prepared(len(text), text) for text in texts]

    def run(self, batch: Sequence[Prepared]) -> Vector:
        texts = [str(prepared.payload) for prepared in batch]
        self.passes.append(texts)
        assert self.go.acquire(timeout=20)
        if "bad" in texts:
            raise RuntimeError("bad")
        return np.array([[len(text), int(text.split("-")[0])] for text in texts], np.float32)


def text(number: int, length: int = 20) -> str:
    """A text of that many characters, which are tokens here."""
    return f"{number}-".ljust(length, "x")


@pytest.fixture
def engine() -> Slow:
    return Slow()


@pytest.fixture
def lane(engine: Slow) -> Iterator[Lane]:
    thread = ThreadPoolExecutor(1)
    yield Lane(Passes(engine), thread, query=False, texts=4, tokens=128, waiting=10)
    engine.go.release(1_000)
    thread.shutdown()


def ask(lane: Lane, *texts: str) -> asyncio.Task[Vector]:
    """A request that runs by itself."""
    return asyncio.create_task(lane.embed(texts))


async def passes(engine: Slow, count: int) -> None:
    """Wait until so many passes have begun."""
    while len(engine.passes) < count:
        await asyncio.sleep(0.001)


def stand_still(until: Callable[[], bool]) -> None:
    """Keep the loop from running meanwhile."""
    deadline = time.monotonic() + 20
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.001)


async def test_what_came_while_a_pass_ran_shares_the_next(engine: Slow, lane: Lane) -> None:
    first = ask(lane, text(1))
    await passes(engine, 1)
    others = [ask(lane, text(n)) for n in (2, 3, 4)]
    await asyncio.sleep(0)
    engine.go.release(2)
    assert (await first).tolist() == [[20, 1]]
    assert [(await other).tolist() for other in others] == [[[20, n]] for n in (2, 3, 4)]
    assert engine.passes == [[text(1)], [text(2), text(3), text(4)]]


async def test_a_pass_is_bounded_by_texts_and_by_tokens(engine: Slow, lane: Lane) -> None:
    engine.go.release(100)
    await lane.embed([text(n) for n in range(9)])
    assert [len(each) for each in engine.passes] == [4, 4, 1]
    await lane.embed([text(n, 60) for n in range(4)])
    assert [len(each) for each in engine.passes[3:]] == [2, 2]
    await lane.embed([text(n, 600) for n in range(2)])
    assert [len(each) for each in engine.passes[5:]] == [1, 1]


async def test_a_long_text_does_not_slow_the_short_ones(engine: Slow, lane: Lane) -> None:
    first = ask(lane, text(0))
    await passes(engine, 1)
    rest = [ask(lane, text(1)), ask(lane, text(2, 100)), ask(lane, text(3))]
    await asyncio.sleep(0)
    engine.go.release(3)
    await asyncio.gather(first, *rest)
    assert engine.passes[1:] == [[text(1), text(3)], [text(2, 100)]]


async def test_one_text_does_not_wait_for_the_whole_of_a_large_request(
    engine: Slow, lane: Lane
) -> None:
    large = ask(lane, *(text(n, 60) for n in range(9)))
    await passes(engine, 1)
    small = ask(lane, text(99))
    await asyncio.sleep(0)
    engine.go.release(3)
    assert (await small).tolist() == [[20, 99]]
    assert not large.done()
    engine.go.release(20)
    assert (await large)[:, 1].tolist() == list(range(9))


async def test_a_cancelled_request_leaves_the_queue(engine: Slow, lane: Lane) -> None:
    first = ask(lane, text(0))
    await passes(engine, 1)
    left, stays = ask(lane, text(1)), ask(lane, text(2))
    await asyncio.sleep(0)
    left.cancel()
    engine.go.release(2)
    await asyncio.gather(first, stays)
    assert engine.passes == [[text(0)], [text(2)]]


async def test_a_full_queue_refuses_until_there_is_room(engine: Slow, lane: Lane) -> None:
    large = ask(lane, *(text(n) for n in range(12)))
    await passes(engine, 1)
    with pytest.raises(EmbeddingQueueFull) as caught:
        await lane.embed([text(99)])
    assert caught.value.status == 503
    assert caught.value.headers["Retry-After"]
    large.cancel()
    engine.go.release(10)
    await asyncio.gather(large, return_exceptions=True)
    while True:
        try:
            assert (await lane.embed([text(7)])).tolist() == [[20, 7]]
            break
        except EmbeddingQueueFull:
            await asyncio.sleep(0.001)


async def test_a_failure_reaches_those_of_its_pass_only(engine: Slow, lane: Lane) -> None:
    bad = ask(lane, "bad")
    await passes(engine, 1)
    good = ask(lane, text(1))
    await asyncio.sleep(0)
    engine.go.release(2)
    with pytest.raises(RuntimeError):
        await bad
    assert (await good).tolist() == [[20, 1]]


async def test_what_cannot_be_prepared_fails_alone(engine: Slow, lane: Lane) -> None:
    first = ask(lane, text(0))
    await passes(engine, 1)
    asked = [ask(lane, each) for each in (text(1), "unreadable", text(2))]
    await asyncio.sleep(0)
    engine.go.release(2)
    await first
    with pytest.raises(UnicodeError):
        await asked[1]
    assert [(await each).tolist() for each in asked[::2]] == [[[20, 1]], [[20, 2]]]
    assert engine.passes[1:] == [[text(1), text(2)]]


async def test_the_next_pass_runs_while_the_loop_is_busy(engine: Slow, lane: Lane) -> None:
    """The thread asks nobody: what came during a pass is taken when that one ends."""
    first = ask(lane, text(1))
    await passes(engine, 1)
    second = ask(lane, text(2))
    await asyncio.sleep(0)
    engine.go.release()
    stand_still(until=lambda: len(engine.passes) == 2)
    assert not first.done()
    engine.go.release()
    assert [(await each).tolist() for each in (first, second)] == [[[20, 1]], [[20, 2]]]


class Clock:
    """Shows what a test sets."""

    seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def lanes(engine: Slow, clock: Clock) -> Iterator[tuple[Lane, Lane]]:
    """Of texts, and of queries, on an engine that runs one pass at a time."""
    shared, threads = Passes(engine, clock), [ThreadPoolExecutor(1) for _ in range(2)]
    texts, queries = (
        Lane(shared, thread, query=query, texts=32, tokens=256, waiting=100)
        for thread, query in zip(threads, (False, True), strict=True)
    )
    yield texts, queries
    engine.go.release(1_000)
    for thread in threads:
        thread.shutdown()


async def waiting_query(engine: Slow, queries: Lane) -> asyncio.Task[Vector]:
    """A query that waits for the first pass, which is of texts."""
    await passes(engine, 1)
    query = ask(queries, text(99))
    while not queries._passes._waiting:
        await asyncio.sleep(0.001)
    return query


async def test_a_query_goes_before_the_next_pass_of_texts(
    engine: Slow, lanes: tuple[Lane, Lane]
) -> None:
    texts, queries = lanes
    bulk = ask(texts, *(text(n) for n in range(50)))
    query = await waiting_query(engine, queries)
    engine.go.release(100)
    assert (await query).tolist() == [[20, 99]]
    assert engine.passes[1] == [text(99)]
    assert (await bulk)[:, 1].tolist() == list(range(50))


async def test_passes_of_texts_are_short_while_queries_come(
    engine: Slow, clock: Clock, lanes: tuple[Lane, Lane]
) -> None:
    texts, queries = lanes
    engine.go.release(100)
    for lane, count in ((texts, 20), (queries, 1), (texts, 5)):
        await ask(lane, *(text(n) for n in range(count)))
    clock.seconds += 1
    await ask(texts, *(text(n) for n in range(20)))
    assert [len(each) for each in engine.passes] == [8, 8, 4, 1, 2, 2, 1, 8, 8, 4]


async def test_a_query_that_waits_long_is_one_that_came_just_now(
    engine: Slow, clock: Clock, lanes: tuple[Lane, Lane]
) -> None:
    texts, queries = lanes
    bulk = ask(texts, *(text(n) for n in range(10)))
    query = await waiting_query(engine, queries)
    clock.seconds += 5
    engine.go.release(100)
    await asyncio.gather(bulk, query)
    assert [len(each) for each in engine.passes] == [8, 1, 2]


@pytest.mark.parametrize("at_once", [1, 2])
async def test_an_engine_runs_no_more_passes_at_once_than_it_may(
    engine: Slow, at_once: int
) -> None:
    engine.at_once = at_once
    shared, batch = Passes(engine), engine.prepare([text(1)], query=False)
    with ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(shared.run, batch, query=False) for _ in range(3)]
        await passes(engine, at_once)
        await asyncio.sleep(0.05)
        assert len(engine.passes) == at_once
        engine.go.release(3)
        for run in runs:
            assert run.result(timeout=20).tolist() == [[20, 1]]


async def test_a_pass_that_fails_lets_the_next_one_go(
    engine: Slow, lanes: tuple[Lane, Lane]
) -> None:
    texts, queries = lanes
    engine.go.release(100)
    with pytest.raises(RuntimeError, match="bad"):
        await ask(texts, "bad")
    assert (await ask(queries, text(99))).tolist() == [[20, 99]]


async def test_closing_lets_nobody_wait(engine: Slow, lane: Lane) -> None:
    waiting = [ask(lane, text(1)), ask(lane, text(2))]
    await passes(engine, 1)
    lane.close()
    for each in waiting:
        with pytest.raises(ShuttingDown):
            await each
    with pytest.raises(ShuttingDown):
        await lane.embed([text(1)])


class Counted:
    """Computes a vector when it may, and counts."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, query: str) -> Vector:
        self.asked.append(query)
        await self.go.wait()
        if query == "bad":
            raise RuntimeError(query)
        return np.array([len(query)], np.float32)


async def test_callers_that_miss_one_text_at_once_compute_once() -> None:
    compute = Counted()
    kept = QueryCache(2, compute)
    both = [asyncio.create_task(kept.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    both[0].cancel()
    await asyncio.sleep(0)
    compute.go.set()
    assert [float((await each)[0]) for each in both[1:]] == [1, 1]
    assert compute.asked == ["a"]


async def test_the_least_recently_asked_goes_first() -> None:
    compute = Counted()
    compute.go.set()
    kept = QueryCache(2, compute)
    for query in ("a", "b", "a", "c", "a", "b"):
        await kept.get(query)
    assert compute.asked == ["a", "b", "c", "b"]


async def test_a_failure_is_not_kept() -> None:
    compute = Counted()
    compute.go.set()
    kept = QueryCache(2, compute)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await kept.get("bad")
    assert compute.asked == ["bad", "bad"]


async def test_the_last_caller_to_leave_ends_the_computation() -> None:
    compute = Counted()
    kept = QueryCache(2, compute)
    alone = asyncio.create_task(kept.get("a"))
    await asyncio.sleep(0.01)
    alone.cancel()
    await asyncio.gather(alone, return_exceptions=True)
    compute.go.set()
    await kept.get("a")
    assert compute.asked == ["a", "a"]


async def test_a_kept_vector_cannot_be_changed() -> None:
    compute = Counted()
    compute.go.set()
    with pytest.raises(ValueError, match="read-only"):
        (await QueryCache(2, compute).get("a"))[0] = 2
