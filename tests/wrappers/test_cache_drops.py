"""What a cache keeps of answers that nobody can be given any more: nothing."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

import pytest
from pydantic import SecretStr

from app.settings import CacheSettings
from app.wrappers.cache.store import ALL, Answer, CacheStore, Write
from app.wrappers.cached import new_store
from tests.redis_server import RedisServer


@dataclass(frozen=True)
class Kept:
    """A store, and how many values it has."""

    store: CacheStore
    count: Callable[[], int]

    async def keep(self, key: str, scope: str, seconds: float = inf) -> None:
        """Keep something that was computed just now."""
        found = await self.store.find(key, scope)
        assert found.stamp is not None
        await self.store.keep(key, scope, Answer(found.stamp, b"kettle", seconds))

    async def write(self, *scopes: str, certain: bool = True) -> None:
        """A write from its begin to its end."""
        write = Write.to(scopes)
        await self.store.begin(write)
        await self.store.end(write, certain=certain)


@pytest.fixture(params=["in process", "redis"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setattr("app.wrappers.cache.redis.ANSWER_SECONDS", 20.0)
    if request.param == "in process":
        store = new_store(CacheSettings())
        return Kept(store, lambda: int(store.facts()["entries"]))
    redis: RedisServer = request.getfixturevalue("redis")

    def count() -> int:
        with redis.client() as client:
            return len(list(client.scan_iter("memory-cache:value:*")))

    return Kept(new_store(CacheSettings(url=SecretStr(redis.url))), count)


@pytest.mark.parametrize("certain", [True, False])
async def test_a_write_drops_the_answers_of_its_scopes_and_no_others(
    kept: Kept, certain: bool
) -> None:
    for n in range(5):
        await kept.keep(f"{n}", "user:ada")
    await kept.keep("bob's", "user:bob")
    assert kept.count() == 6
    await kept.write("user:ada", certain=certain)
    assert kept.count() == 1
    assert (await kept.store.find("bob's", "user:bob")).value == b"kettle"


async def test_a_write_to_everything_drops_every_answer(kept: Kept) -> None:
    for n in range(5):
        await kept.keep(f"{n}", f"user:{n}")
    await kept.write(ALL)
    assert kept.count() == 0


@pytest.mark.parametrize("over", [False, True])
async def test_an_answer_that_a_write_overtook_is_not_kept(kept: Kept, over: bool) -> None:
    stamp = (await kept.store.find("x", "user:ada")).stamp
    assert stamp is not None
    write = Write.to(["user:ada"])
    await kept.store.begin(write)
    if over:
        await kept.store.end(write, certain=True)
    await kept.store.keep("x", "user:ada", Answer(stamp, b"kettle"))
    assert kept.count() == 0


async def test_an_answer_ends_with_the_first_of_its_records(kept: Kept) -> None:
    await kept.keep("x", "user:ada", seconds=0.0)
    await kept.keep("y", "user:ada")
    await asyncio.sleep(0.05)  # Redis counts milliseconds
    assert (await kept.store.find("x", "user:ada")).value is None
    assert kept.count() == 1


async def test_a_write_drops_every_answer_however_many_have_ended_by_themselves(
    kept: Kept,
) -> None:
    for n in range(2_000):
        await kept.keep(f"{n}", "user:ada", seconds=0.0 if n % 2 else inf)
    await kept.write("user:ada")
    assert kept.count() == 0
