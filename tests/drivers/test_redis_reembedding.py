"""Another model for the records of a Redis, while services go on."""

import asyncio
from dataclasses import replace

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, key_of
from app.embedding import Embedder
from app.errors import ConfigurationError, InUse
from tests.drivers.another_model import (
    Load,
    assert_vectors_are_of,
    assert_vectors_count_while_their_model_does,
    bring,
    exported,
    fill,
    keep_missing,
    ranked,
    reembed,
    steps,
    until_told,
)
from tests.drivers.redis_keys import assert_as_if_made_by_the_second
from tests.drivers.search_server import OpenRedis, open_redis, search
from tests.drivers.two_models import ALIKE, FIRST, SECOND, embedder_of
from tests.redis_server import RedisServer

__all__ = ["open_redis", "search"]


async def test_all_is_in_the_end_as_if_the_second_model_had_made_it(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    records, before = await exported(driver), driver.identity()
    await reembed(driver)
    assert await exported(driver) == records
    assert driver.identity() == before
    await assert_vectors_are_of(SECOND, driver)
    await assert_as_if_made_by_the_second(driver, open_redis, search)


async def test_it_goes_back_and_to_a_third_model_after_it_is_over(open_redis: OpenRedis) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    first = await ranked(driver)
    for model in (SECOND, ALIKE, FIRST):
        await reembed(driver, model)
        await assert_vectors_are_of(model, driver)
    assert await ranked(driver) == first


async def test_nothing_is_answered_or_written_by_a_model_that_only_looks_alike(
    open_redis: OpenRedis,
) -> None:
    """Services that were open before, configured with the old model, are asked after the switch."""
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    unable = await open_redis(instead=FIRST)
    await fill(driver)
    await ranked(driver)  # so that users are kept
    await ranked(unable)
    async with steps(driver, ALIKE) as found:
        await bring(found)
        right = await open_redis(instead=ALIKE)
        assert await ranked(driver) == await ranked(right)
        memory = await driver.store("ada", "kettle of the switch")
        with pytest.raises(ConfigurationError, match="can't be loaded"):
            await unable.recall("ada", query="kettle")
        with pytest.raises(ConfigurationError, match="can't be loaded"):
            await unable.store("ada", "never")
        with pytest.raises(ConfigurationError, match="can't be loaded"):
            await unable.recall_global_knowledge("kettle")
        await found.end()
    assert await ranked(driver) == await ranked(right)
    await assert_vectors_are_of(ALIKE, driver)
    assert await driver.get(memory.memory_id, "ada") == memory


async def test_what_changes_between_reading_and_keeping_is_never_old_in_the_end(
    open_redis: OpenRedis, search: RedisServer
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    gone = await driver.store("ada", "kettle that is deleted")
    changed = await driver.store("ada", "kettle that is changed")
    retagged = await driver.store("ada", "kettle with a tag")
    forgotten = await driver.store("bob", "kettle of a user who is forgotten")
    expired = await driver.store("ada", "kettle that expires", ttl=3_600)
    knowledge = await driver.store_global_knowledge("copper kettle", "metals")
    async with steps(driver) as found:
        await found.begin()
        batches = [records async for records in found.missing()]
        assert sum(map(len, batches)) == 6
        await driver.delete(gone.memory_id, "ada")
        await driver.update(changed.memory_id, "ada", {"content": "basil by now"})
        await driver.update(retagged.memory_id, "ada", {"tags": ["t"]})
        await driver.delete_user("bob")
        await driver.update(expired.memory_id, "ada", {"ttl": 0.001})
        await driver.delete_knowledge(knowledge.knowledge_id)
        later = await driver.store("céline", "rain")
        for records in batches:
            await found.keep(records)
        with search.client() as client:
            assert client.exists("{memory}:2:l:k") == 0
        for record in (gone, forgotten):
            assert await driver.get(record.memory_id, record.user_id) is None
        await bring(found)
        await found.end()
    assert {r.content for r in await exported(driver)} == {
        "basil by now",
        "kettle with a tag",
        "rain",
    }
    await assert_vectors_are_of(SECOND, driver)
    [found_again] = await driver.recall("céline", query="rain")
    assert found_again.memory_id == later.memory_id


@pytest.mark.parametrize("model", [SECOND, ALIKE], ids=["another dimension", "the same"])
async def test_a_user_kept_since_the_last_delete_is_read_anew_after_the_switch(
    open_redis: OpenRedis, model: Embedder
) -> None:
    """The delete is the last change of the user in both generations."""
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    async with steps(driver, model) as found:
        await found.begin()
        await keep_missing(found)
        [memory] = await driver.recall("ada", top_k=1)
        assert await driver.delete(memory.memory_id, "ada")
        before = await ranked(driver)  # so that ada is kept as she is now
        await bring(found)
        await found.end()
    right = await open_redis(instead=model)
    assert await ranked(driver) == await ranked(right) != before


async def test_a_change_after_a_record_was_brought_over_is_brought_over_again(
    open_redis: OpenRedis,
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    async with steps(driver) as found:
        await found.begin()
        await keep_missing(found)
        count = await found.count()
        assert count.done == count.records == len(await exported(driver))
        [memory, other, *_] = await driver.recall("ada", top_k=5)
        await driver.update(memory.memory_id, "ada", {"content": "changed"})
        await driver.delete(other.memory_id, "ada")
        await driver.import_records([replace(other, user_id="dora", content="imported")])
        count = await found.count()
        assert (count.records, count.records - count.done) == (len(await exported(driver)), 2)
        await bring(found)
        await found.end()
    await assert_vectors_are_of(SECOND, driver)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services look often, and are waited for shortly."""
    monkeypatch.setattr("app.drivers.redis.following.Following.every", 0.1)
    monkeypatch.setattr("app.drivers.redis.services.SILENT_SECONDS", 0.8)


@pytest.mark.parametrize("model", [SECOND, ALIKE], ids=["another dimension", "the same"])
async def test_under_load_every_answer_is_of_one_of_the_models_and_none_fails(
    open_redis: OpenRedis, model: Embedder
) -> None:
    """Three services, one of them configured with the new model once it may be."""
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    records = await exported(driver)
    after = await open_redis(instead=model, namespace="after")
    await after.import_records(records)
    answers = await ranked(driver), await ranked(after)
    assert answers[0] != answers[1]
    services: list[RecordDriver] = [
        driver,
        await open_redis(instead=FIRST, embedder_of=embedder_of),
    ]
    load = Load(services)
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(load.write(n)) for n in range(6)]
        running += [tasks.create_task(load.read(answers)) for _ in range(3)]
        running.append(tasks.create_task(load.replace_documents()))
        async with steps(driver, model) as found:
            await found.begin()
            services.append(await open_redis(instead=model, embedder_of=embedder_of))
            await load.some()
            await bring(found)
            await load.some()
            await found.end()
            await load.some()
        load.over = True
    assert load.answered[0]
    assert load.answered[1]
    there = {key_of(record): record.content for record in await exported(driver)}
    mine = {key: what for key, what in there.items() if key[0] in load.users}
    assert mine == load.kept
    document = sorted(
        r.content for r in await exported(driver) if isinstance(r, Knowledge) and r.doc_id
    )
    assert document == sorted(load.document)
    await assert_vectors_are_of(model, driver)
    assert [await ranked(service) for service in services] == [answers[1]] * 3


async def test_a_third_model_is_refused_by_name_and_the_two_are_not(open_redis: OpenRedis) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    before = await ranked(driver)
    async with steps(driver) as found:
        await found.begin()
        async for records in found.missing():
            await found.keep(records)
            break
        for model in (FIRST, SECOND):
            service = await open_redis(instead=model, embedder_of=embedder_of)
            assert await ranked(service) == before
        with pytest.raises(ConfigurationError, match=r"^MEMORY_EMBEDDING_MODEL: 'alike'"):
            await open_redis(instead=ALIKE, embedder_of=embedder_of)
    async with steps(driver, ALIKE) as other:
        with pytest.raises(ConfigurationError, match="the vectors of 'second'"):
            await other.begin()
    async with steps(driver) as found:
        await bring(found)
        for model in (FIRST, SECOND):
            service = await open_redis(instead=model, embedder_of=embedder_of)
            assert await ranked(service) == await ranked(driver) != before
        with pytest.raises(ConfigurationError, match=r"^MEMORY_EMBEDDING_MODEL: 'alike'"):
            await open_redis(instead=ALIKE, embedder_of=embedder_of)
    async with steps(driver, ALIKE) as other:
        with pytest.raises(ConfigurationError, match="the vectors of 'second' by now"):
            await other.begin()
    async with steps(driver) as found:
        await found.begin()
        await found.end()
        service = await open_redis(instead=FIRST, embedder_of=embedder_of)
        assert await ranked(service) == await ranked(driver)
        with pytest.raises(ConfigurationError, match="the vectors of 'second' already"):
            await found.begin()


async def test_two_processes_do_not_do_it_at_once(open_redis: OpenRedis) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    async with steps(driver) as found:
        await found.begin()
        with pytest.raises(InUse):
            async with steps(driver):
                pass
        await bring(found)
    async with steps(driver) as found:
        assert await found.state() == "switched"
        await found.end()
        assert await found.state() == "none"


@pytest.mark.usefixtures("soon")
async def test_a_service_that_can_not_load_the_model_is_named_and_one_that_left_is_not(
    open_redis: OpenRedis,
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await fill(driver)
    unable = await open_redis(instead=FIRST)
    count = len(await exported(driver))
    async with steps(driver) as found:
        await found.begin()
        assert await found.hindrance() is not None
        async with asyncio.timeout(30):
            while "can't be loaded beside 'first'" not in (why := str(await found.hindrance())):
                await asyncio.sleep(0.05)
            assert "the service " in why
            facts = (await driver.health_check()).facts["reembedding"]
            assert facts == {"model": "second", "records": count, "done": 0}
            facts = (await unable.health_check()).facts["reembedding"]
            assert "can't be loaded beside 'first'" in facts["problem"]
            await unable.close()
            while await found.hindrance() is not None:
                await asyncio.sleep(0.05)
        await keep_missing(found)
        facts = (await driver.health_check()).facts["reembedding"]
        assert facts == {"model": "second", "records": count, "done": count}
        assert await found.switch()
        await found.end()
    await until_told(driver, goes_on=False)


async def test_vectors_that_come_with_a_record_count_where_the_model_is_theirs_still(
    open_redis: OpenRedis,
) -> None:
    driver = await open_redis(instead=FIRST, embedder_of=embedder_of)
    await assert_vectors_count_while_their_model_does(driver)
