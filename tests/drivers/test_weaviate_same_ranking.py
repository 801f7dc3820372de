"""However large a user is, the same ten are found on Weaviate, with the same scores."""

from dataclasses import replace
from datetime import timedelta

import pytest

from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.settings import Limits
from tests.drivers.resident import Chance
from tests.drivers.test_pgvector_same_ranking import QUERIES, SCOPES, memories, same
from tests.drivers.weaviate_drivers import OpenWeaviate, open_weaviate, server
from tests.storm import times

__all__ = ["open_weaviate", "server"]

FILTERS = [
    {"tags": {"any": ["odd"]}},
    {"metadata": {"speaker": {"in": ["Ada", "Zoë"]}}, "tags": {"none": ["even"]}},
]


@pytest.mark.parametrize("seed", range(times(1, 8)))
@pytest.mark.parametrize("count", [5, 150, 600])
async def test_the_same_ten_are_found(
    open_weaviate: OpenWeaviate, embedder: Embedder, count: int, seed: int
) -> None:
    quick = Chance(embedder.dimension)
    yardstick = InMemoryDriver(quick, Limits())
    driver = await open_weaviate(instead=quick)
    every = memories(seed, count)
    for start in range(0, count, 500):
        await driver.import_records(every[start : start + 500])
    later = [
        replace(memory, content="zo kota", updated_at=memory.updated_at + timedelta(days=1))
        for memory in every[: count // 10]
    ]
    if later:
        await driver.import_records(later)
    gone = {memory.memory_id for memory in every[count // 10 : count // 10 + 10]}
    for memory_id in gone:
        await driver.delete(memory_id, "ada")
    kept = {memory.memory_id: memory for memory in [*every, *later]}
    await yardstick.import_records([memory for key, memory in kept.items() if key not in gone])
    for query in QUERIES:
        for scope in [*SCOPES, *({"filter": one} for one in FILTERS)]:
            asked = {**query, **scope, "top_k": 10}
            same(await driver.recall("ada", **asked), await yardstick.recall("ada", **asked))
