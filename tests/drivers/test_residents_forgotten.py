"""Users who are kept in a service's memory: what is deleted leaves it with the next recall."""

import asyncio
from typing import TypeAlias

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.redis import RedisDriver
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import Chance
from tests.drivers.search_server import OpenRedis, open_redis, search

__all__ = ["open_redis", "search"]

Keeping: TypeAlias = PgvectorDriver | RedisDriver
MANY = 600
WANTED = {"metadata": {"topic": {"in": ["kettle 1", "kettle 2"]}}}


async def facts(driver: Keeping) -> tuple[int, float]:
    """How many users are kept, and in how many megabytes, after recalls of ada."""
    for _ in range(3):
        await driver.recall("ada", query="kettle")
        await driver.recall("ada", query="kettle", filter=WANTED)
        await asyncio.sleep(0.1)
    found = (await driver.health_check()).facts
    return int(found["resident_users"]), float(found["resident_mb"])


async def test_what_is_deleted_leaves_the_memory_of_a_service_on_pgvector(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    await _check(await open_driver(await new_database(), instead=Chance(384)))


async def test_what_is_deleted_leaves_the_memory_of_a_service_on_redis(
    open_redis: OpenRedis,
) -> None:
    await _check(await open_redis(instead=Chance(384)))


async def _check(driver: Keeping) -> None:
    batch = [
        NewMemory(user_id="ada", content=f"kettle {n}", metadata={"topic": f"kettle {n}"})
        for n in range(MANY)
    ]
    stored = [m for n in range(0, MANY, 300) for m in await driver.store_many(batch[n : n + 300])]
    async with asyncio.timeout(20):
        while (found := await facts(driver))[0] == 0:
            pass
    _, all_of_it = found
    last = stored[-100].created_at
    deleted = await driver.delete_many("ada", before=last)
    assert deleted
    users, left = await facts(driver)
    assert users == 1
    assert left < all_of_it * (1 - deleted / MANY) + 0.15
    await driver.delete_user("ada")
    found_after = (await driver.health_check()).facts
    assert (found_after["resident_users"], found_after["resident_mb"]) == (0, 0.0)
