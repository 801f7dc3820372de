"""`python -m benchmarks.drivers`: every backend that is there, next to pgvector in the same run.

Stores, batches, recalls of a user with 100 and of one with 5,000 memories, and deletes, each call
alone, straight at the drivers: without HTTP, and with vectors that were made before, so that no
model takes part. In a round each driver is measured in turn; a ratio is that of a round's pair.

pgvector runs on an embedded server of its own. redis takes part with `--redis URL`, of a Redis that
nobody else uses, or with the one that the extra `dev` brings. weaviate takes part with
`--weaviate URL`, in collections of its own, which are deleted; its key is TEST_WEAVIATE_API_KEY.
pinecone takes part with `--pinecone HOST`, in namespaces of its own, which are deleted; its key is
TEST_PINECONE_API_KEY.
"""

import argparse
import asyncio
import tempfile
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from itertools import islice
from pathlib import Path
from secrets import token_hex
from statistics import median
from time import perf_counter
from typing import NamedTuple, TypeAlias, TypeVar

import numpy as np
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder, Vector
from app.settings import DatabaseSettings, Limits, RecallSettings, RedisSettings
from benchmarks.data import LARGE_USER, load, user

_USERS, _EACH, _LARGE, _BATCH = 20, 100, 5_000, 500
_ROUNDS, _CALLS = 7, 60
_DIMENSION = 384

Given = TypeVar("Given")
Maker: TypeAlias = Callable[
    [argparse.Namespace, Embedder], AbstractAsyncContextManager[RecordDriver]
]


class Made(Embedder):
    """Unit vectors that are the text's own, from its words: like texts have like vectors."""

    name, dimension, max_tokens = "made", _DIMENSION, 512

    def __init__(self) -> None:
        self._words: dict[str, Vector] = {}
        self._random = np.random.default_rng(7)

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vector:
        total = np.sum([self._word(word) for word in text.split()], axis=0)
        return np.asarray(total / np.linalg.norm(total), np.float32)

    def _word(self, word: str) -> Vector:
        if word not in self._words:
            self._words[word] = self._random.standard_normal(_DIMENSION).astype(np.float32)
        return self._words[word]


class Figure(NamedTuple):
    """What is measured of a driver: the milliseconds of one call, or of so many records."""

    name: str
    measure: Callable[["Rounds", RecordDriver], Awaitable[float]]


class Rounds:
    """Texts and queries, no two alike in a run."""

    def __init__(self, texts: Iterator[str], queries: Iterator[str]) -> None:
        self._texts, self._queries = texts, queries

    async def recall(self, driver: RecordDriver, whose: Sequence[str]) -> float:
        asked = list(islice(self._queries, _CALLS))
        users = [whose[n % len(whose)] for n in range(_CALLS)]
        pairs = zip(users, asked, strict=True)
        return await _each(lambda pair: driver.recall(pair[0], query=pair[1]), pairs)

    async def store(self, driver: RecordDriver) -> float:
        texts = islice(self._texts, _CALLS)
        return await _each(lambda text: driver.store("writer", text), texts)

    async def batch(self, driver: RecordDriver) -> float:
        texts = islice(self._texts, _BATCH)
        began = perf_counter()
        await driver.store_many([NewMemory(user_id="batch", content=text) for text in texts])
        return (perf_counter() - began) * 1e3

    async def delete(self, driver: RecordDriver) -> float:
        page = await driver.list_memories("writer", limit=_CALLS)
        ids = [memory.memory_id for memory in page.memories]
        return await _each(lambda one: driver.delete(one, "writer"), ids)


FIGURES = [
    Figure("recall of 100", lambda rounds, d: rounds.recall(d, [user(n) for n in range(_USERS)])),
    Figure("recall of 5,000", lambda rounds, d: rounds.recall(d, [LARGE_USER])),
    Figure("store", lambda rounds, d: rounds.store(d)),
    Figure("delete", lambda rounds, d: rounds.delete(d)),
    Figure(f"batch of {_BATCH}", lambda rounds, d: rounds.batch(d)),
]


async def _each(call: Callable[[Given], Awaitable[object]], values: Iterable[Given]) -> float:
    """The median milliseconds of the calls, one after the other."""
    took = []
    for value in values:
        began = perf_counter()
        await call(value)
        took.append(perf_counter() - began)
    return median(took) * 1e3


@asynccontextmanager
async def pgvector(_: argparse.Namespace, embedder: Embedder) -> AsyncIterator[RecordDriver]:
    with tempfile.TemporaryDirectory(prefix="drivers-") as folder:
        settings = DatabaseSettings(data_dir=Path(folder))
        async with PgvectorDriver(settings, embedder, Limits(), RecallSettings()) as driver:
            yield driver


@asynccontextmanager
async def redis(given: argparse.Namespace, embedder: Embedder) -> AsyncIterator[RecordDriver]:
    from app.drivers.redis import RedisDriver
    from tests.redis_server import KEEPING, running

    with ExitStack() as stack:
        url = given.redis or stack.enter_context(running(*KEEPING, search=True)).url
        settings = RedisSettings(url=SecretStr(url), namespace=f"bench-{token_hex(4)}")
        async with RedisDriver(settings, embedder, Limits(), RecallSettings()) as driver:
            yield driver


@asynccontextmanager
async def weaviate(given: argparse.Namespace, embedder: Embedder) -> AsyncIterator[RecordDriver]:
    from app.drivers.weaviate import WeaviateDriver
    from tests.drivers.weaviate_server import collections_of_its_own

    async with (
        collections_of_its_own(given.weaviate) as settings,
        WeaviateDriver(settings, embedder, Limits(), RecallSettings()) as driver,
    ):
        yield driver


@asynccontextmanager
async def pinecone(given: argparse.Namespace, embedder: Embedder) -> AsyncIterator[RecordDriver]:
    from app.drivers.pinecone import PineconeDriver
    from tests.drivers.pinecone_left import namespaces_of_its_own

    async with (
        namespaces_of_its_own(given.pinecone) as settings,
        PineconeDriver(settings, embedder, Limits(), RecallSettings()) as driver,
    ):
        yield driver


BACKENDS: dict[str, Maker] = {
    "pgvector": pgvector,
    "redis": redis,
    "pinecone": pinecone,
    "weaviate": weaviate,
}
"""How a driver is made, by its name; the first is the one that the others are held against."""


async def _run(given: argparse.Namespace, names: Sequence[str]) -> None:
    data = load(given.texts, _USERS, _EACH, _LARGE)
    rounds = Rounds(data.texts(), data.queries())
    embedder = Made()
    stored = [NewMemory(user_id=whose, content=text) for whose, text in data.memories]
    batches = [stored[n : n + _BATCH] for n in range(0, len(stored), _BATCH)]
    took: dict[tuple[str, str], list[float]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        drivers = {
            name: await stack.enter_async_context(BACKENDS[name](given, embedder)) for name in names
        }
        for driver in drivers.values():
            for batch in batches:
                await driver.store_many(batch)
        for n in range(1 + _ROUNDS):
            for figure in FIGURES:
                for name, driver in drivers.items():
                    measured = await figure.measure(rounds, driver)
                    if n:  # the first round warms up
                        took[figure.name, name].append(measured)
        for driver in drivers.values():
            users = [whose.user_id for whose in (await driver.list_users(limit=100)).users]
            for whose in users:
                await driver.delete_user(whose)
    print(f"| ms of one call, and over {names[0]} | {' | '.join(names)} |")
    print(f"|---{'|---' * len(names)}|")
    for figure in FIGURES:
        first = took[figure.name, names[0]]
        cells = [
            f"{median(own):.2f} ({median(a / b for a, b in zip(own, first, strict=True)):.2f})"
            for own in (took[figure.name, name] for name in names)
        ]
        print(f"| {figure.name} | {' | '.join(cells)} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drivers", description=__doc__)
    parser.add_argument("--texts", type=Path, help="a file of texts, in place of made ones")
    parser.add_argument("--redis", metavar="URL", help="a Redis with the query engine")
    parser.add_argument("--pinecone", metavar="HOST", help="an empty index of 384 dimensions")
    parser.add_argument("--weaviate", metavar="URL", help="a Weaviate 1.38.10 or newer")
    parser.add_argument("others", nargs="*", help=f"some of {', '.join([*BACKENDS][1:])}; else all")
    given = parser.parse_args()
    first, *others = BACKENDS
    for name in ("pinecone", "weaviate"):
        if getattr(given, name) is None:
            others.remove(name)
    wanted = [name for name in others if not given.others or name in given.others]
    asyncio.run(_run(given, [first, *wanted]))


if __name__ == "__main__":
    main()
