"""Updates and what the journal answers for, while the primary is away or its answers are lost."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.core.memory.records import Memory, Recalled
from app.core.memory.requests import Keep
from app.errors import (
    ConnectionLost,
    DriverError,
    DriverUnavailable,
    EmbeddingQueueFull,
    PreconditionFailed,
)
from app.journal.entries import stores_of
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.conftest import OpenFailover, OpenReplicated
from tests.wrappers.held import Held, until
from tests.wrappers.settled import settle


async def test_failover_takes_an_update_that_its_primary_can_t(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    stored = await driver.store("ada", "a copper kettle", "kitchen", ["old"])
    await second.import_records([stored])
    first.error = DriverUnavailable()
    updated = await driver.update(stored.memory_id, "ada", {"content": "a steel pan"})
    assert updated is not None
    again = await driver.update(stored.memory_id, "ada", {"conversation_id": None, "tags": ["new"]})
    assert again is not None
    assert again.updated_at > updated.updated_at > stored.updated_at
    assert await driver.get(stored.memory_id, "ada") == again
    for found in (
        await driver.recall("ada", query="steel pan"),
        await driver.recall("ada", query="steel", use_vector=False),
        await driver.recall("ada"),
    ):
        assert [(m.memory_id, m.content, m.tags) for m in found] == [
            (stored.memory_id, "a steel pan", ["new"])
        ]
    assert await driver.recall("ada", query="copper", use_vector=False) == []
    assert await driver.recall("ada", conversation_id="kitchen") == []
    assert (await driver.list_memories("ada", "kitchen")).memories == []
    assert (await driver.list_memories("ada")).memories == [again]
    with pytest.raises(PreconditionFailed):
        await driver.update(stored.memory_id, "ada", {"tags": []}, if_match=[stored.updated_at])
    first.error = None
    await settle(driver)
    assert await first.get(stored.memory_id, "ada") == again


async def test_failover_updates_a_store_that_waits_for_its_primary(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    first.error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")
    await driver.update(stored.memory_id, "ada", {"content": "pan"})
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.error = None
    await asyncio.sleep(0.2)
    updated = await driver.update(stored.memory_id, "ada", {"tags": ["x"]})
    assert await driver.get(stored.memory_id, "ada") == updated
    assert await driver.delete_user("bob") == 0
    driver.members.dispatchers["first"].start()
    await settle(driver)
    assert await first.get(stored.memory_id, "ada") == updated


async def test_failover_ranks_the_pending_memories_of_two_users_with_one_id_each_by_its_own_text(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    mine = await first.store("ada", "a copper kettle")
    theirs = replace(mine, user_id="bob", content="the night train to Lyon")
    first.error = DriverUnavailable()
    await driver.import_records([mine, theirs])
    for memory in (mine, theirs):
        (found,) = await driver.recall(memory.user_id, query=memory.content)
        assert found.score == pytest.approx(1)


async def test_failover_without_journalled_writes_refuses_an_update_as_it_does_a_store(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    stored = await driver.store("ada", "kettle")
    await second.import_records([stored])
    first.error = DriverUnavailable()
    with pytest.raises(DriverUnavailable):
        await driver.update(stored.memory_id, "ada", {"content": "pan"})
    first.error = None
    assert await driver.get(stored.memory_id, "ada") == stored


async def test_an_update_reaches_every_replica_in_whatever_order(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    second.error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")
    fact = await driver.store_global_knowledge("kettle", "kitchen")
    updated = await driver.update(stored.memory_id, "ada", {"content": "pan"})
    changed = await driver.update_knowledge(fact.knowledge_id, {"title": "Pans"})
    second.error = None
    await second.import_records([updated] if updated else [])  # before the store itself
    await settle(driver)
    for each in (first, second):
        assert await each.get(stored.memory_id, "ada") == updated
        assert await each.get_knowledge(fact.knowledge_id) == changed


@pytest.mark.parametrize("happened", [False, True])
async def test_an_update_whose_answer_was_lost_ends_the_same_everywhere(
    replicated: OpenReplicated, first: Held, second: Held, happened: bool
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    lost = ConnectionLost()
    first.error_after, first.keep_error = (lost, None) if happened else (None, lost)
    with pytest.raises(ConnectionLost):
        await driver.update(stored.memory_id, "ada", {"content": "pan"})
    first.error_after = first.keep_error = None
    await settle(driver)
    kept = await first.get(stored.memory_id, "ada")
    assert kept is not None
    assert kept.content == "pan"
    assert await second.get(stored.memory_id, "ada") == kept


async def test_an_update_that_its_primary_refuses_is_nowhere(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    first.keep_error = DriverError(reason="not this one")
    with pytest.raises(DriverError):
        await driver.update(stored.memory_id, "ada", {"content": "pan"})
    first.keep_error = None
    await settle(driver)
    for each in (first, second):
        assert await each.get(stored.memory_id, "ada") == stored


async def test_an_update_that_lost_against_another_on_the_primary_is_nowhere(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    """Its caller heard that it may happen; then the primary got another one of that version."""
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.keep_error = ConnectionLost()
    with pytest.raises(ConnectionLost):
        await driver.update(stored.memory_id, "ada", {"content": "late"})
    first.keep_error = None
    other = replace(
        stored, content="other", updated_at=stored.updated_at + timedelta(microseconds=1)
    )
    await first._keep(Keep([other]))
    driver.members.dispatchers["first"].start()
    await settle(driver)
    assert await first.get(stored.memory_id, "ada") == other
    assert await second.get(stored.memory_id, "ada") == stored  # nobody told it of the other


async def test_the_journal_answers_for_a_primary_that_is_away(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="journal", failures=1)
    kept = await driver.store("ada", "a copper kettle")
    gone = await driver.store("ada", "a steel pan")
    await driver.store("bob", "a cup")
    await settle(driver)
    first.error = DriverUnavailable()
    new = await driver.store("ada", "a glass jar")
    updated = await driver.update(kept.memory_id, "ada", {"content": "a copper pot"})
    changed = await driver.update(new.memory_id, "ada", {"tags": ["x"]})
    assert await driver.delete(gone.memory_id, "ada") is True
    assert await driver.delete(gone.memory_id, "ada") is False
    fact = await driver.store_global_knowledge("pots are round", "kitchen")
    assert await driver.delete_user("bob") == 1
    assert await driver.delete_user("bob") == 0
    later = await driver.store("bob", "a mug")
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert (found, found.driver, found.degraded) == ([changed, updated], "second", True)
    assert await driver.recall("bob") == [later]
    assert [k.knowledge_id for k in await driver.recall_global_knowledge("pots")] == [
        fact.knowledge_id
    ]
    assert (await driver.list_memories("ada")).memories == [changed, updated]
    assert (await driver.health_check()).status == "degraded"
    first.error = None
    await settle(driver)
    for each in (first, second):
        assert await each.ids() == {
            kept.memory_id,
            new.memory_id,
            later.memory_id,
            fact.knowledge_id,
        }
        assert await each.recall("ada") == [changed, updated]


async def test_what_the_journal_answered_for_is_read_before_the_primary_has_it(
    replicated: OpenReplicated, first: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    await driver.store("ada", "kettle 0")
    await settle(driver)
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.error = DriverUnavailable()
    stored = await driver.store("ada", "kettle 1")
    first.error = None
    await asyncio.sleep(0.2)
    updated = await driver.update(stored.memory_id, "ada", {"content": "pan"})
    assert (await driver.recall("ada"))[0] == updated
    assert await driver.delete(stored.memory_id, "ada") is True
    assert len(await driver.recall("ada")) == 1
    other = await driver.store("ada", "kettle 2")
    assert await driver.delete_user("ada") == 2
    assert other.memory_id not in {m.memory_id for m in await driver.recall("ada")}
    driver.members.dispatchers["first"].start()
    await settle(driver)
    assert await first.ids() == set()


async def test_what_the_primary_refuses_is_refused_though_the_journal_would_answer(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    first.keep_error = DriverError(reason="not this one")
    with pytest.raises(DriverError):
        await driver.store("ada", "kettle")
    first.keep_error = None
    await settle(driver)
    assert await first.ids() == await second.ids() == set()


async def test_a_forget_that_comes_late_deletes_nothing_stored_after_it(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    await driver.store("ada", "kettle")
    await settle(driver)
    second.error = DriverUnavailable()
    await driver.delete_user("ada")
    later = await driver.store("ada", "pan")
    second.error = None
    await second.import_records([later])  # before the forget comes there
    await settle(driver)
    assert await first.ids() == await second.ids() == {later.memory_id}


async def test_an_older_store_that_comes_late_does_not_undo_an_update(
    replicated: OpenReplicated, second: Held
) -> None:
    driver = await replicated()
    memory = Memory(
        memory_id="0198c0de-0000-7000-8000-000000000000",
        user_id="ada",
        content="kettle",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    newer = replace(memory, content="pan", updated_at=datetime(2026, 1, 2, tzinfo=UTC))
    await driver.import_records([newer])
    await driver.members.journal.append(stores_of([memory]), driver.members.names)
    await settle(driver)

    async def is_there() -> bool:
        return await second.get(memory.memory_id, "ada") == newer

    await until(is_there)
    assert await driver.get(memory.memory_id, "ada") == newer


async def test_an_update_that_became_a_dead_letter_keeps_nobody_from_another(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    first.keep_error = ConnectionLost()
    with pytest.raises(ConnectionLost):
        await driver.update(stored.memory_id, "ada", {"content": "late"})
    first.keep_error = DriverError(reason="not this one")

    async def refused() -> bool:
        lag = (await driver.members.journal.lag()).get("first")
        return lag is not None and lag.dead_letters == 1

    await until(refused)
    first.keep_error = None
    assert await driver.get(stored.memory_id, "ada") == stored
    updated = await driver.update(stored.memory_id, "ada", {"content": "pan"})
    await driver.catch_up("first")
    await settle(driver)
    for each in (first, second):
        assert await each.get(stored.memory_id, "ada") == updated


async def test_a_pending_memory_is_deleted_also_without_its_user(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    stored = [await driver.store("ada", "kettle") for _ in range(2)]
    first.error = DriverUnavailable()
    pending = await driver.store("ada", "pan")
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.error = None
    await until(lambda: _there(driver))
    assert await driver.delete(pending.memory_id) is True
    assert await driver.delete(pending.memory_id) is False
    first.error = DriverUnavailable()
    await driver.store("ada", "lid")
    first.error = None
    await until(lambda: _there(driver))
    assert await driver.delete_user("ada") == len(stored) + 1
    driver.members.dispatchers["first"].start()
    await settle(driver)
    assert await first.ids() == set()


async def test_what_the_journal_answered_for_is_deleted_also_without_its_user(
    replicated: OpenReplicated, first: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    await driver.members.dispatchers["first"].stop()  # so that the moment lasts
    first.error = DriverUnavailable()
    pending = await driver.store("ada", "pan")
    first.error = None
    await until(lambda: _there(driver))
    assert await driver.delete(pending.memory_id) is True
    assert await driver.delete(pending.memory_id) is False
    driver.members.dispatchers["first"].start()
    await settle(driver)
    assert await first.ids() == set()


async def _there(driver: FailoverDriver | ReplicatedDriver) -> bool:
    """Whether the primary is not left alone."""
    return not driver.members.primary.reachability.away


async def test_a_model_that_is_overloaded_is_asked_once(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(reads="replicas")
    first.error = second.error = EmbeddingQueueFull()
    first.calls.clear()
    second.calls.clear()
    with pytest.raises(EmbeddingQueueFull):
        await driver.recall("ada", query="kettle")
    assert len(first.calls + second.calls) == 1
