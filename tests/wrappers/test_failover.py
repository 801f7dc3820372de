"""failover: who answers, what is left alone, and what becomes of writes."""

import asyncio
from collections.abc import Sequence
from time import perf_counter

import pytest
from structlog.testing import capture_logs

from app.core.memory.records import Memory, MemoryPage, NewMemory, Recalled, record_id
from app.embedding import Embedder, Vector
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    InvalidInput,
)
from app.journal.entries import Write
from app.settings import FailoverSettings, JournalSettings, Limits
from app.wrappers.failover import FailoverDriver
from tests.wrappers.alone import left_alone
from tests.wrappers.conftest import OpenFailover
from tests.wrappers.held import Held, until


async def test_the_first_driver_answers_while_it_can(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    stored = await driver.store("ada", "kettle")
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert (list(found), found.driver, found.degraded) == ([stored], "first", False)
    assert second.calls == []


async def test_a_fallback_answers_and_says_so(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    kept = await second.store("ada", "kettle")
    first.error = DriverUnavailable()
    found = await driver.recall("ada", query="kettle")
    assert isinstance(found, Recalled)
    assert [m.memory_id for m in found] == [kept.memory_id]
    assert (found.driver, found.degraded) == ("second", True)


async def test_a_bad_request_is_not_asked_again(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    with pytest.raises(InvalidInput):
        await driver.recall("ada", top_k=0)
    first.error = DriverError()
    with pytest.raises(DriverError):
        await driver.recall("ada")
    assert "recall" not in second.calls


async def test_a_full_embedding_queue_is_not_the_drivers_fault(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(failures=1)
    first.error = EmbeddingQueueFull()
    with pytest.raises(EmbeddingQueueFull):
        await driver.recall("ada", query="kettle")
    first.error = None
    await driver.recall("ada")
    assert second.calls == []


async def test_a_slow_driver_is_left_at_the_deadline(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(timeout=0.1)
    first.slow = 30.0
    started = perf_counter()
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert found.driver == "second"
    assert perf_counter() - started < 5


async def test_a_dead_driver_is_not_asked_until_it_is_healthy(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(failures=2, cooldown=0.2)
    first.error = DriverUnavailable(reason="gone")
    with capture_logs() as logs:
        for _ in range(10):
            await driver.recall("ada")
        assert first.calls.count("recall") == 2
        first.error = None

        async def is_back() -> bool:
            found = await driver.recall("ada")
            return isinstance(found, Recalled) and found.driver == "first"

        await until(is_back)
    changes = [(log["event"], log["backend"]) for log in logs if "backend" in log]
    assert changes == [("backend_away", "first"), ("backend_back", "first")]


async def test_nobody_left_is_told_as_unavailable(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    first.error = second.error = DriverUnavailable()
    with pytest.raises(DriverUnavailable):
        await driver.recall("ada")
    health = await driver.health_check()
    assert health.status == "unavailable"
    assert [(inner.driver, inner.status) for inner in health.drivers] == [
        ("first", "unavailable"),
        ("second", "unavailable"),
    ]


async def test_it_opens_without_its_primary_and_finds_it_later(
    failover: OpenFailover, first: Held
) -> None:
    first.error = DriverUnavailable()
    driver = await failover()
    assert (await driver.health_check()).status == "degraded"
    first.error = None

    async def healthy() -> bool:
        return not (await driver.health_check()).facts["left_alone"]

    await until(healthy)
    found = await driver.recall("ada")
    assert isinstance(found, Recalled)
    assert found.driver == "first"


async def test_by_default_a_store_fails_with_the_primary(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    first.error = DriverUnavailable()
    with pytest.raises(DriverUnavailable):
        await driver.store("ada", "kettle")
    assert await second.ids() == set()


async def test_a_journalled_store_is_found_during_the_outage_and_delivered_after_it(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal", cooldown=0.5)
    old = await second.store("ada", "an old kettle", "c")
    first.error = DriverUnavailable()
    new = await driver.store("ada", "a copper kettle", "c", ["x"], {"n": 1})
    other = await driver.store("bob", "basil")
    knowledge = await driver.store_global_knowledge("kettles", "kitchen")

    found = await driver.recall("ada", query="copper kettle")
    assert [m.memory_id for m in found] == [new.memory_id, old.memory_id]
    assert found[0].score is not None
    assert found[0].score > 0.8
    assert [m.memory_id for m in await driver.recall("ada")] == [new.memory_id, old.memory_id]
    assert [m.memory_id for m in await driver.recall("ada", exclude_tags=["x"])] == [old.memory_id]
    by_words = await driver.recall("ada", query="copper", use_vector=False)
    assert [m.memory_id for m in by_words] == [new.memory_id]
    assert await driver.recall("ada", "d") == []
    assert await driver.get(new.memory_id, "ada") == new
    assert await driver.get(new.memory_id, "bob") is None
    page = await driver.list_memories("ada", limit=1)
    assert page.memories == [new]
    rest = await driver.list_memories("ada", limit=1, cursor=page.next_cursor)
    assert rest.memories == [old]
    told = await driver.recall_global_knowledge("kettles")
    assert [k.knowledge_id for k in told] == [knowledge.knowledge_id]
    assert (await driver.health_check()).facts["pending"]["first"]["count"] == 3

    first.error = None
    wanted = {new.memory_id, other.memory_id, knowledge.knowledge_id}

    async def delivered() -> bool:
        return await first.ids() == wanted

    await until(delivered)
    assert await first.get(new.memory_id, "ada") == new

    async def settled() -> bool:
        return (await driver.health_check()).status == "ok"

    await until(settled)
    assert await second.ids() == {old.memory_id}


async def test_a_recall_does_not_wait_for_all_that_is_pending_to_be_embedded(
    failover: OpenFailover, first: Held, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = await failover(writes="journal", cooldown=60.0)
    first.error = DriverUnavailable()
    texts = ["a copper kettle", *(f"basil {n}" for n in range(250))]
    stored = await driver.store_many([NewMemory(user_id="ada", content=text) for text in texts])
    embedded: list[int] = []
    embed = embedder.embed

    async def counted(these: Sequence[str]) -> Vector:
        embedded.append(len(these))
        return await embed(these)

    monkeypatch.setattr(embedder, "embed", counted)
    for _ in range(5):
        found = await driver.recall("ada", query="copper kettle", top_k=1)
        assert found[0].memory_id == stored[0].memory_id
    assert embedded == [100, 100, 51]


async def test_what_was_accepted_during_an_outage_is_found_before_and_after_it_is_delivered(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal", cooldown=60.0, failures=1)
    before = await driver.store("ada", "kettle 1")
    first.error = DriverUnavailable()
    new = await driver.store("ada", "kettle 2")
    assert await driver.recall("ada") == [new]
    first.error = None
    found: list[Memory] = []
    async with asyncio.timeout(20):
        while len(found) < 2:  # the delivery tells that it is back, not the probe
            found = await driver.recall("ada")
            assert new in found
    assert found == [new, before]
    assert (await driver.health_check()).facts["left_alone"] == []


async def test_health_tells_while_a_driver_is_left_alone(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(cooldown=60.0, failures=1)
    first.error = DriverUnavailable()
    await driver.recall("ada")
    first.error = None
    health = await driver.health_check()
    assert (health.status, health.detail) == ("degraded", "first is left alone")


async def test_a_store_that_happened_unheard_is_there_once(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal")
    first.error_after = ConnectionLost()
    stored = await driver.store("ada", "kettle")
    first.error_after = None

    async def settled() -> bool:
        return not (await driver.health_check()).facts["pending"]

    await until(settled)
    assert await driver.recall("ada") == [stored]


async def test_a_delete_reaches_every_driver(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    stored = await driver.store("ada", "kettle")
    await second.import_records([stored])
    assert await driver.delete(stored.memory_id, "bob") is False
    assert await driver.delete(stored.memory_id, "ada") is True
    assert await driver.delete(stored.memory_id, "ada") is False
    assert await first.ids() == await second.ids() == set()


async def test_what_is_deleted_during_an_outage_never_comes_back(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal", cooldown=0.3)
    kept, gone = await driver.store("ada", "kettle 1"), await driver.store("ada", "kettle 2")
    forgotten = await driver.store("bob", "kettle 3")
    fact = await driver.store_global_knowledge("kettle 4", "kitchen")
    first.error = DriverUnavailable()
    pending = await driver.store("ada", "kettle 5")
    assert await driver.delete(gone.memory_id, "ada") is True
    assert await driver.delete(pending.memory_id, "ada") is True
    assert await driver.delete(kept.memory_id, "bob") is True  # nobody can know
    await driver.delete_user("bob")
    await driver.delete_knowledge(fact.knowledge_id)
    assert await driver.recall("ada") == []
    first.error = None

    async def settled() -> bool:
        return not (await driver.health_check()).facts["pending"]

    while not await settled():
        # From the moment it is back, and before it got the deletes.
        found = {memory.memory_id for memory in await driver.recall("ada")}
        assert found <= {kept.memory_id}
        assert forgotten.memory_id not in {m.memory_id for m in await driver.recall("bob")}
        assert await driver.recall_global_knowledge("kettle") == []
    assert await first.ids() == {kept.memory_id}

    async def is_back() -> bool:
        return not (await driver.health_check()).facts["left_alone"]

    await until(is_back)
    assert await driver.recall("ada") == [kept]


async def test_hidden_memories_do_not_use_up_the_limit(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(cooldown=60.0)
    memories = [await second.store("ada", f"kettle {n}") for n in range(8)]
    second.error = DriverUnavailable()
    for memory in memories[4:]:
        await driver.delete(memory.memory_id, "ada")
    second.error, first.error = None, DriverUnavailable()
    await driver.members.nodes[1].reachability.stop()
    found = await driver.recall("ada", top_k=4)
    assert {m.memory_id for m in found} == {m.memory_id for m in memories[:4]}


async def test_a_store_that_waits_is_not_shown_once_it_is_deleted(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal", failures=100)
    first.keep_error = DriverUnavailable()
    stored = await driver.store("ada", "kettle")
    assert await driver.recall("ada") == [stored]
    assert await driver.delete(stored.memory_id, "ada") is True  # every driver takes the delete
    assert await driver.recall("ada") == []
    assert await driver.get(stored.memory_id, "ada") is None


async def test_a_model_that_is_away_leaves_the_drivers_alone(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(failures=1)
    stored = await driver.store("ada", "kettle")
    first.error = EmbeddingUnavailable()
    await driver.recall("ada", query="kettle")
    first.error = None
    assert await driver.get(stored.memory_id, "ada") == stored


async def test_where_every_model_is_away_the_answer_says_so(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    first.error = second.error = EmbeddingUnavailable()
    with pytest.raises(EmbeddingUnavailable):
        await driver.recall("ada", query="kettle")
    second.error = DriverUnavailable()
    with pytest.raises(DriverUnavailable) as raised:
        await driver.recall("ada", query="kettle")
    assert raised.value.code == "driver_unavailable"


@pytest.mark.parametrize("count", [1, 100])
async def test_stores_on_a_primary_that_hangs_are_journalled_at_their_deadline(
    failover: OpenFailover, first: Held, count: int
) -> None:
    driver = await failover(writes="journal", timeout=0.1)
    first.slow = 30.0
    started = perf_counter()
    stored = await driver.store_many([NewMemory(user_id="ada", content="kettle")] * count)
    assert perf_counter() - started < 10
    assert await driver.get(stored[-1].memory_id, "ada") == stored[-1]


async def test_a_batch_has_longer_than_a_store(failover: OpenFailover, first: Held) -> None:
    driver = await failover(timeout=0.3)
    first.slow = 0.6
    with pytest.raises(DriverTimeout):
        await driver.store("ada", "kettle")
    assert len(await driver.store_many([NewMemory(user_id="ada", content="kettle")] * 800)) == 800


async def test_nothing_is_restored_after_a_deletion_while_that_is_pending_for_a_fallback(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover()
    backup = await driver.store("ada", "kettle")
    await second.import_records([backup])
    second.error = DriverUnavailable()
    await driver.delete_user("ada")
    with pytest.raises(DriverUnavailable):
        await driver.import_records([backup])
    assert await driver.recall("ada") == []
    second.error = None

    async def forgotten() -> bool:
        return not (await driver.health_check()).facts["pending"]

    await until(forgotten)
    await driver.import_records([backup])
    assert await driver.recall("ada") == [backup]
    assert await driver.get(backup.memory_id, "ada") == backup
    assert await driver.list_memories("ada") == MemoryPage([backup], None)


async def test_an_export_has_all_that_the_primary_has_and_is_to_have_or_fails(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal", cooldown=60.0)
    kept, gone = await driver.store("ada", "kettle 1"), await driver.store("ada", "kettle 2")
    bobs = await driver.store("bob", "kettle 3")
    anyones = await driver.store("eve", "kettle 4")
    await second.import_records([kept, gone, bobs, anyones])
    first.error = second.error = DriverUnavailable()
    await driver.delete(gone.memory_id, "ada")
    await driver.delete(anyones.memory_id)
    await driver.delete_user("bob")
    new = await driver.store("bob", "kettle 5")
    fact = await driver.store_global_knowledge("kettle 6", "kitchen")
    second.error = None
    await driver.members.nodes[1].reachability.stop()
    with pytest.raises(DriverUnavailable):  # a part could be taken for the whole
        await anext(driver.export_records())
    first.error = None
    await driver.members.nodes[0].reachability.stop()
    exported = [record async for record in driver.export_records()]
    assert {record_id(record) for record in exported} == {
        kept.memory_id,
        new.memory_id,
        fact.knowledge_id,
    }
    assert len(exported) == 3


async def test_whose_a_memory_is_can_be_told_while_it_waits(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal", cooldown=60.0)
    there = await driver.store("ada", "kettle")
    first.error = DriverUnavailable()
    waiting = await driver.store("bob", "kettle")
    await second.import_records([there])
    assert await driver.owner_of(waiting.memory_id.upper()) == "bob"
    assert await driver.owner_of(there.memory_id) == "ada"
    second.error = DriverUnavailable()
    await driver.delete(there.memory_id)
    await driver.delete(waiting.memory_id)
    second.error = None
    await driver.members.nodes[1].reachability.stop()
    assert await driver.owner_of(there.memory_id) is None
    assert await driver.owner_of(waiting.memory_id) is None


async def test_the_deletion_of_another_user_does_not_hide_whose_a_memory_is(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal", cooldown=60.0)
    bobs = await second.store("bob", "kettle")
    carls = await second.store("carl", "kettle")
    first.error = DriverUnavailable()
    adas = await driver.store("ada", "kettle")
    second.error = DriverUnavailable()
    await driver.delete_user("carl")
    await driver.delete(bobs.memory_id, "ada")  # not hers
    second.error = None
    await driver.members.nodes[1].reachability.stop()
    assert await driver.owner_of(adas.memory_id) == "ada"
    assert await driver.owner_of(bobs.memory_id) == "bob"
    assert await driver.owner_of(carls.memory_id) is None


@pytest.mark.parametrize("writes", ["primary", "journal"])
async def test_what_is_brought_back_survives_a_delete_that_the_primary_still_has_to_make(
    failover: OpenFailover, first: Held, writes: str
) -> None:
    driver = await failover(writes=writes, cooldown=0.3, timeout=5.0)
    stored = await driver.store("ada", "kettle")
    first.error = DriverUnavailable()
    await driver.delete(stored.memory_id, "ada")
    first.error = None

    async def imported() -> bool:
        try:
            await driver.import_records([stored])
        except DriverUnavailable:
            return False
        return True

    async def settled() -> bool:
        return not (await driver.health_check()).facts["pending"]

    await until(imported)
    await until(settled)
    assert await driver.get(stored.memory_id, "ada") == stored
    assert await first.ids() == {stored.memory_id}


async def test_many_deleted_stores_that_wait_do_not_hold_the_loop(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(writes="journal", cooldown=60.0)
    first.error = DriverUnavailable()
    for _ in range(4):
        batch = await driver.store_many([NewMemory(user_id="ada", content="kettle")] * 200)
        for memory in batch[:100]:
            await driver.members.journal.append(
                [Write(verb="delete", user_id="ada", record_id=memory.memory_id)], ["second"]
            )
    assert len((await driver.list_memories("ada", limit=100)).memories) == 100
    entries = await driver.members.journal.of_user("ada")
    assert sum(len(entry.records) for entry in entries) == 400


async def test_a_driver_that_is_misconfigured_leaves_nothing_open(
    first: Held, second: Held, journal: JournalSettings, embedder: Embedder
) -> None:
    before = asyncio.all_tasks()
    first.error = DriverUnavailable()  # so that it is probed
    second.error = ConfigurationError("drivers.second.url: is wrong")
    with left_alone():
        driver = FailoverDriver([first, second], FailoverSettings(), journal, embedder, Limits())
    with pytest.raises(ConfigurationError):
        async with driver:
            pass
    assert asyncio.all_tasks() == before
    assert (first.opened, second.opened) == (1, 1)
    assert (first.closed, second.closed) == (1, 1)
    second.error = None
    driver = FailoverDriver([first, second], FailoverSettings(), journal, embedder, Limits())
    async with driver:
        await driver.recall("ada")


async def test_a_call_that_fails_after_the_end_starts_no_probing(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(failures=1)
    first.slow, first.error = 0.2, DriverUnavailable()
    asking = asyncio.create_task(driver.recall("ada"))
    await asyncio.sleep(0.05)
    before = asyncio.all_tasks()
    await driver.close()
    await asking
    assert not driver.members.nodes[0].reachability.away
    assert asyncio.all_tasks() <= before


async def test_a_store_on_a_primary_that_hangs_fails_at_the_deadline(
    failover: OpenFailover, first: Held
) -> None:
    driver = await failover(timeout=0.1)
    first.slow = 30.0
    with pytest.raises(DriverTimeout):
        await driver.store("ada", "kettle")
