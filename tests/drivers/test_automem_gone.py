"""What AutoMem's graph no more has is not a memory, whatever its vector store still says."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from app.core.memory.records import NewMemory
from app.drivers.automem import AutomemDriver
from app.errors import DriverUnavailable
from tests.drivers.automem_fake import FakeAutomem
from tests.drivers.conftest import OpenAutomem


async def fill(automem: AutomemDriver, count: int, user_id: str = "ada") -> list[str]:
    batch = [NewMemory(user_id=user_id, content=f"kettle number {n}") for n in range(count)]
    return [memory.memory_id for memory in await automem.store_many(batch)]


async def recalled(driver: AutomemDriver, user_id: str = "ada", top_k: int = 10) -> list[str]:
    found = await driver.recall(user_id, query="kettle number 0", top_k=top_k)
    return [memory.memory_id for memory in found]


@pytest.mark.parametrize("left", [2, 40])
async def test_a_delete_that_the_vector_store_misses_deletes_on_every_replica(
    open_automem: OpenAutomem, fake: FakeAutomem, left: int
) -> None:
    driver = await open_automem()
    *others, gone = await fill(driver, left + 1)
    fake.lose_vector_calls = 1
    assert await driver.delete(gone, "ada")
    assert len(fake.vectors) == len(fake.graph) + 1
    for replica in (driver, await open_automem()):
        answer = await replica.recall("ada", query=f"kettle number {left}")
        found = [memory.memory_id for memory in answer]
        assert gone not in found
        assert set(found) <= set(others)
        assert len(found) == min(left, 10)
        assert await replica.get(gone, "ada") is None


async def test_a_forgotten_user_whose_vectors_stay_is_not_recalled(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem()
    await fill(driver, 40)
    fake.vector_store_up = False
    assert await driver.delete_user("ada") == 40
    fake.vector_store_up = True
    assert len(fake.vectors) == 40
    for replica in (driver, await open_automem()):
        assert await recalled(replica) == []
    kept = await fill(driver, 12)
    for replica in (driver, await open_automem()):
        assert set(await recalled(replica, top_k=12)) == set(kept)


async def test_knowledge_that_was_deleted_is_not_recalled(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem()
    stored = [await driver.store_global_knowledge(f"kettle {n}", "kitchen") for n in range(8)]
    fake.lose_vector_calls = 1
    assert await driver.delete_knowledge(stored[0].knowledge_id)
    for replica in (driver, await open_automem()):
        found = await replica.recall_global_knowledge("kettle 0", top_k=5)
        assert len(found) == 5
        assert stored[0].knowledge_id not in {one.knowledge_id for one in found}


async def test_a_store_that_a_deletion_of_its_user_overtakes_is_not_recalled(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver, other = await open_automem(), await open_automem()
    deleted = 0

    async def delete_user() -> None:
        nonlocal deleted
        fake.between_writes = None
        deleted = await other.delete_user("ada")

    fake.between_writes = delete_user
    await driver.store("ada", "kettle number 0")
    assert deleted == 1
    assert len(fake.vectors) == 1
    for replica in (driver, other, await open_automem()):
        assert await recalled(replica) == []


async def test_what_clients_delete_while_others_store_is_recalled_by_nobody(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver, other = await open_automem(), await open_automem()

    async def client(n: int) -> None:
        user_id = f"user {n % 3}"
        for turn in range(6):
            stored = await driver.store(user_id, f"kettle number {n} {turn}")
            if turn % 3 == 1:
                await other.delete(stored.memory_id, user_id)
            if (n + turn) % 5 == 0:
                await other.delete_user(user_id)

    await asyncio.gather(*(client(n) for n in range(16)))
    for user in range(3):
        page = await driver.list_memories(f"user {user}", limit=100)
        listed = {memory.memory_id for memory in page.memories}
        for replica in (driver, other, await open_automem()):
            assert set(await recalled(replica, f"user {user}", top_k=100)) == listed


async def test_a_legacy_memory_that_its_client_deleted_is_not_recalled(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem(legacy_tag="user:{user_id}")
    made = [fake.add(f"kettle number {n}", ["user:ada"]) for n in range(12)]
    fake.unembedded += made
    await fake.catch_up()
    fake.graph.pop(made[0])
    found = await recalled(driver)
    assert len(found) == 10
    assert set(found) <= set(made[1:])


async def test_a_record_stored_anew_under_its_id_is_shown_as_it_is_now(
    open_automem: OpenAutomem, fake: FakeAutomem
) -> None:
    driver = await open_automem()
    await fill(driver, 20)
    stored = await driver.store("ada", "kettle number 20", metadata={"state": "old"})
    fake.lose_vector_calls = 1
    await driver.delete(stored.memory_id, "ada")
    await driver.import_records([replace(stored, metadata={"state": "new"})])
    found = await (await open_automem()).recall("ada", query="kettle number 20", top_k=5)
    assert [one.metadata for one in found if one.memory_id == stored.memory_id] == [
        {"state": "new"}
    ]


async def test_hits_without_a_graph_to_ask_are_an_outage(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    await fill(automem, 20)
    asked = 0

    async def lose_the_graph(request: Any) -> None:
        nonlocal asked
        asked += 1
        fake.database_up = asked == 1

    fake.before = lose_the_graph
    with pytest.raises(DriverUnavailable):
        await recalled(automem)


async def test_a_vector_store_that_went_away_is_degraded(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.vector_store_up = False
    state = await automem.health_check()
    assert state.status == "degraded"
    assert state.detail is not None
    assert "vector store" in state.detail
    fake.vector_store_up = True
    assert (await automem.health_check()).status == "ok"


async def test_a_store_that_automem_could_not_embed_is_still_found_by_its_words(
    automem: AutomemDriver, fake: FakeAutomem
) -> None:
    fake.lose_provider_calls = 1
    stored = await automem.store("ada", "the copper kettle")
    await fill(automem, 20)
    found = await automem.recall("ada", query="copper", use_vector=False)
    assert [memory.memory_id for memory in found] == [stored.memory_id]
