"""Another model for the records of a process, while it goes on serving them."""

import asyncio

import pytest

from app.core.memory.records import Knowledge, key_of
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder
from app.errors import ConfigurationError, InUse
from app.settings import Limits
from tests.drivers.another_model import (
    Load,
    assert_vectors_are_of,
    assert_vectors_count_while_their_model_does,
    bring,
    exported,
    fill,
    ranked,
    reembed,
    steps,
)
from tests.drivers.two_models import ALIKE, FIRST, SECOND


async def driver_of(model: Embedder) -> InMemoryDriver:
    driver = InMemoryDriver(model, Limits())
    await driver.open()
    return driver


async def test_all_is_in_the_end_as_if_the_second_model_had_made_it() -> None:
    driver = await driver_of(FIRST)
    await fill(driver)
    records, before = await exported(driver), driver.identity()
    await reembed(driver)
    fresh = await driver_of(SECOND)
    await fresh.import_records(records)
    assert await exported(driver) == records
    assert await ranked(driver) == await ranked(fresh)
    assert driver.identity() == before
    await assert_vectors_are_of(SECOND, driver)
    await reembed(driver, FIRST)
    await assert_vectors_are_of(FIRST, driver)


async def test_what_changes_between_reading_and_keeping_is_never_old_in_the_end() -> None:
    driver = await driver_of(FIRST)
    gone = await driver.store("ada", "kettle that is deleted")
    changed = await driver.store("ada", "kettle that is changed")
    retagged = await driver.store("ada", "kettle with a tag")
    await driver.store("bob", "kettle of a user who is forgotten")
    knowledge = await driver.store_global_knowledge("copper kettle", "metals")
    async with steps(driver) as found:
        await found.begin()
        batches = [records async for records in found.missing()]
        assert sum(map(len, batches)) == 5
        await driver.delete(gone.memory_id, "ada")
        await driver.update(changed.memory_id, "ada", {"content": "basil by now"})
        await driver.update(retagged.memory_id, "ada", {"tags": ["t"]})
        await driver.delete_user("bob")
        await driver.delete_knowledge(knowledge.knowledge_id)
        await driver.store("céline", "rain")
        for records in batches:
            await found.keep(records)
        assert (await found.count()).done == 0
        await bring(found)
        await found.end()
    contents = {record.content for record in await exported(driver)}
    assert contents == {"basil by now", "kettle with a tag", "rain"}
    await assert_vectors_are_of(SECOND, driver)


@pytest.mark.parametrize("model", [SECOND, ALIKE], ids=["another dimension", "the same"])
async def test_under_load_every_answer_is_of_one_of_the_models_and_none_fails(
    model: Embedder,
) -> None:
    driver = await driver_of(FIRST)
    await fill(driver)
    after = await driver_of(model)
    await after.import_records(await exported(driver))
    answers = await ranked(driver), await ranked(after)
    assert answers[0] != answers[1]
    load = Load([driver])
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(load.write(n)) for n in range(6)]
        running += [tasks.create_task(load.read(answers)) for _ in range(3)]
        running.append(tasks.create_task(load.replace_documents()))
        async with steps(driver, model) as found:
            await found.begin()
            await load.some()
            await bring(found)
            await load.some()
            await found.end()
            await load.some()
        load.over = True
    assert load.answered[0]
    assert load.answered[1]
    there = await exported(driver)
    mine = {key_of(record): record.content for record in there if key_of(record)[0] in load.users}
    assert mine == load.kept
    document = [one.content for one in there if isinstance(one, Knowledge) and one.doc_id]
    assert sorted(document) == sorted(load.document)
    await assert_vectors_are_of(model, driver)
    assert await ranked(driver) == answers[1]


async def test_called_off_it_leaves_everything_as_it_was() -> None:
    driver = await driver_of(FIRST)
    await fill(driver)
    answers = await ranked(driver)
    async with steps(driver) as found:
        await found.begin()
        async for records in found.missing():
            await found.keep(records)
            break
        count = await found.count()
        facts = (await driver.health_check()).facts["reembedding"]
        assert facts == {"model": "second", "records": count.records, "done": count.done}
        assert 0 < count.done < count.records
        await found.end()
        assert await found.state() == "none"
    assert "reembedding" not in (await driver.health_check()).facts
    assert await ranked(driver) == answers
    await assert_vectors_are_of(FIRST, driver)


async def test_a_third_model_the_same_model_and_two_at_once_are_refused() -> None:
    driver = await driver_of(FIRST)
    await fill(driver)
    async with steps(driver, FIRST) as found:
        with pytest.raises(ConfigurationError, match="already"):
            await found.begin()
    async with steps(driver) as found:
        await found.begin()
        with pytest.raises(InUse):
            async with steps(driver):
                pass
    async with steps(driver, ALIKE) as found:
        with pytest.raises(ConfigurationError, match="'second'"):
            await found.begin()
    async with steps(driver) as found:
        await bring(found)
    await assert_vectors_are_of(SECOND, driver)


async def test_vectors_that_come_with_a_record_count_where_the_model_is_theirs_still() -> None:
    driver = await driver_of(FIRST)
    await assert_vectors_count_while_their_model_does(driver)
