"""Another model for the records of a Redis: killed, called off, or without room for it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from random import Random
from subprocess import PIPE, Popen

import pytest

from app.core.memory.records import NewMemory, Record
from app.errors import DriverUnavailable, NotPermitted
from tests.drivers.another_model import (
    assert_vectors_are_of,
    bring,
    exported,
    fill,
    ranked,
    reembed,
    steps,
)
from tests.drivers.redis_keys import (
    assert_as_if_made_by_the_second,
    indexes,
    kept,
    keys,
    meta,
)
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.drivers.two_models import FIRST, SECOND, embedder_of
from tests.redis_server import RedisServer
from tests.storm import times

__all__ = ["open_redis", "search"]


def _started(server: RedisServer) -> Popen[bytes]:
    command = [sys.executable, "-m", "tests.drivers.redis_reembedding", server.url]
    return Popen(command, stdout=PIPE)


async def _until_killed(server: RedisServer, steps: int, seconds: float) -> bool:
    """Whether a process that does all of it came to its end before it was killed there."""
    process = _started(server)
    assert process.stdout is not None
    for _ in range(steps):
        if not await asyncio.to_thread(process.stdout.readline):
            break
    await asyncio.sleep(seconds)
    if steps < 1_000:
        process.kill()
    return await asyncio.to_thread(process.wait) == 0


async def test_it_may_be_killed_anywhere_and_goes_on(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    random = Random(times(11, 12))
    for n in range(times(4, 25)):
        over = await _until_killed(search, random.randrange(1, 20), random.random() / 100)
        [memory, *_] = await driver.recall("bob", top_k=1)
        await driver.update(memory.memory_id, "bob", {"content": f"changed {n}"})
        await driver.store("bob", f"stored {n}")
        [gone] = await driver.store_many([NewMemory(user_id="bob", content="gone")])
        await driver.delete(gone.memory_id, "bob")
        if over:
            break
        if n % 2:
            search.kill()
            search.start()
    assert await _until_killed(search, 1_000, 0)
    await assert_as_if_made_by_the_second(driver, open_redis, search)


async def _none() -> AsyncIterator[Sequence[Record]]:
    return
    yield


@pytest.mark.parametrize("after", range(6))
async def test_called_off_at_any_step_it_leaves_nothing(
    open_redis: OpenRedis, search: RedisServer, after: int
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    keys_before, kept_before, answers = keys(search), kept(search, "{memory}"), await ranked(driver)
    async with steps(driver) as found:
        if after:
            await found.begin()
        done = 0
        async for records in found.missing() if after > 1 else _none():
            await found.keep(records)
            done += 1
            if done == after - 1:
                break
        if after == 5:
            later = await driver.store("ada", "basil of another day")
            await driver.delete(later.memory_id, "ada")
        await found.end()
        assert await found.state() == "none"
    assert keys(search) == keys_before
    assert kept(search, "{memory}") == kept_before
    assert indexes(search) == {"{memory}:index:1"}
    assert await ranked(driver) == answers
    assert json.loads(meta(search)["about"])["layout"] == 1
    await reembed(driver)
    await assert_vectors_are_of(SECOND, driver)


async def test_a_full_server_stops_it_and_lets_it_be_called_off(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    before, answers = keys(search), await ranked(driver)
    async with steps(driver) as found:
        await found.begin()
        with search.client() as client:
            client.config_set("maxmemory", "1mb")
        with pytest.raises(NotPermitted):
            await bring(found)
    async with steps(driver) as found:
        await found.end()
    assert keys(search) == before
    assert await ranked(driver) == answers


async def test_a_service_of_an_earlier_version_is_refused_once_it_would_miss_a_change(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    """Such a service compares `id`, and opens no other layout than the first."""
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await driver.store("ada", "kettle")
    known = meta(search)["id"]
    async with steps(driver) as found:
        await found.begin()
        assert meta(search)["id"] != known
        assert json.loads(meta(search)["about"])["layout"] == 2
        known = meta(search)["id"]
        await bring(found)
        assert meta(search)["id"] != known
        assert json.loads(meta(search)["about"])["layout"] == 2
        await found.end()


async def test_a_server_that_dies_amid_it_is_found_again_as_it_was(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    for stop in range(3):
        async with steps(driver) as found:
            if stop < 2:
                await found.begin()
                async for records in found.missing():
                    await found.keep(records[: len(records) // 2])
            else:
                await bring(found)
            search.kill()
            with pytest.raises(DriverUnavailable):
                await found.count()
            search.start()
            count = None if stop == 2 else await found.count()
            assert count is None or 0 < count.done < count.records == len(await exported(driver))
    async with steps(driver) as found:
        await found.end()
    await assert_as_if_made_by_the_second(driver, open_redis, search)


async def test_an_account_without_administration_is_enough(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    with search.client() as client:
        client.execute_command(
            *("ACL", "SETUSER", "memory", "on", ">word", "~{memory}:*", "~{memory}"),
            *("+@all", "-@admin", "-@dangerous", "+info", "+ft.info", "+ft.dropindex"),
            "-ft.config",
        )
    url = f"unix://memory:word@{search.socket}"
    driver = await open_redis(url=url, instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    await reembed(driver)
    await assert_vectors_are_of(SECOND, driver)
    assert indexes(search) == {"{memory}:2:index:1"}
