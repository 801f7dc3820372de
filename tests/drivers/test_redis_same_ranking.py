"""However a user's memories are known, Redis finds the same ten, with the same scores."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest

from app.core.memory.records import Memory
from app.drivers.inmemory import InMemoryDriver
from app.drivers.redis import RedisDriver
from app.embedding import Embedder
from app.settings import Limits, RecallSettings
from tests.drivers.resident import Chance
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.drivers.test_pgvector_same_ranking import QUERIES, SCOPES, memories, same
from tests.storm import times

__all__ = ["open_redis", "search"]

FILTERS = [
    {"tags": {"any": ["odd"]}},
    {"metadata": {"speaker": {"in": ["Ada", "Zoë"]}}, "tags": {"none": ["even"]}},
]


async def check(driver: RedisDriver, yardstick: InMemoryDriver) -> None:
    for query in QUERIES:
        for scope in [*SCOPES, *({"filter": one} for one in FILTERS)]:
            asked = {**query, **scope, "top_k": 10}
            same(await driver.recall("ada", **asked), await yardstick.recall("ada", **asked))


@pytest.mark.parametrize("seed", range(times(1, 12)))
@pytest.mark.parametrize("count", [5, 150, 450, 3_000])
async def test_the_same_ten_are_found_whoever_knows_the_memories(
    open_redis: OpenRedis, embedder: Embedder, count: int, seed: int
) -> None:
    quick = Chance(embedder.dimension)
    yardstick = InMemoryDriver(quick, Limits())
    whole, none = [
        await open_redis(instead=quick, recall=RecallSettings(resident_mb=size)) for size in (64, 0)
    ]
    every = memories(seed, count)
    for start in range(0, count, 500):
        await none.import_records(every[start : start + 500])
    await whole.recall("ada", query="zo")
    # Others change what one service keeps.
    later = [
        replace(memory, content="zo kota", updated_at=memory.updated_at + timedelta(days=1))
        for memory in every[: count // 10]
    ]
    gone = {memory.memory_id for memory in every[count // 10 : count // 5]}
    if later:
        await none.import_records(later)
    for memory_id in gone:
        await none.delete(memory_id, "ada")
    kept = {memory.memory_id: memory for memory in [*every, *later]}
    await yardstick.import_records([memory for key, memory in kept.items() if key not in gone])
    for driver in (none, whole, whole):
        await check(driver, yardstick)


async def test_what_one_service_keeps_is_never_old(
    open_redis: OpenRedis, embedder: Embedder
) -> None:
    """Writers of every kind through one service, recalls through another: none is wrong."""
    quick = Chance(embedder.dimension)
    writer, reader = await open_redis(instead=quick), await open_redis(instead=quick)
    ids = [str(UUID(int=n)) for n in range(1, 13)]
    now = writer.clock.now()
    versions: dict[str, list[str | None]] = {one: [None] for one in ids}
    """What each id's content was, in the order of the writes; None: it was not there."""
    over = False

    async def write(own: list[str], seed: int) -> None:
        rng = random.Random(seed)
        at = now
        for n in range(times(250, 4_000)):
            one, at = rng.choice(own), at + timedelta(microseconds=1)
            if rng.random() < 0.3:
                versions[one].append(None)
                await writer.delete(one, "ada")
            else:
                said = f"kota {one} {seed} {n}"
                versions[one].append(said)
                memory = Memory(
                    memory_id=one, user_id="ada", content=said, created_at=at, updated_at=at
                )
                await writer.import_records([memory])
            done[one] = len(versions[one]) - 1

    done = dict.fromkeys(ids, 0)
    """By id, how many of its versions were acknowledged."""
    wrong: list[str] = []

    async def read() -> int:
        count = 0
        while not over:
            before = dict(done)
            found = {m.memory_id: m.content for m in await reader.recall("ada", query="kota")}
            for one in ids:
                possible = versions[one][before[one] :]
                if found.get(one) not in possible and len(found) < 10:
                    wrong.append(one)
            count += 1
        return count

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(*(write(ids[n::3], n) for n in range(3)))
    over = True
    assert sum(await asyncio.gather(*readers)) > 100
    assert wrong == []
    last = {m.memory_id: m.content for m in await reader.recall("ada", query="kota", top_k=20)}
    assert last == {one: some[-1] for one, some in versions.items() if some[-1] is not None}
