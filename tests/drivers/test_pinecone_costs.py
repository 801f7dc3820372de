"""What each verb costs in calls, as the guide tells it; and what is deleted by and by."""

from collections import Counter
from datetime import timedelta

import pytest

from app.core.memory.records import NewKnowledge, NewMemory
from app.core.memory.requests import Forget
from app.drivers.pinecone import PineconeDriver
from tests.clocks import let_pass
from tests.drivers.pinecone_fake import FakePinecone

NAMES = {
    "/vectors/upsert": "upsert",
    "/vectors/delete": "delete",
    "/vectors/fetch": "fetch",
    "/vectors/list": "list",
    "/query": "query",
    "/namespaces": "namespaces",
}
ONE = "00000000-0000-4000-8000-0000000000a1"
LONG = "".join(chr(0x4E00 + n * 7_919 % 20_000) for n in range(5_000))


def cost(index: FakePinecone) -> dict[str, int]:
    """The calls since the last look."""
    calls = Counter(NAMES[asked.path] for asked in index.asked)
    index.asked.clear()
    return dict(calls)


def expiring(index: FakePinecone) -> list[str]:
    """What tells when records expire."""
    return [one for one in index.vectors() if "-x/" in one]


@pytest.fixture
async def pinecone(pinecone: PineconeDriver, index: FakePinecone) -> PineconeDriver:
    """A driver that sweeps only where a test says so."""
    await pinecone.sweeper.stop()
    index.asked.clear()
    return pinecone


async def test_what_a_memory_costs(pinecone: PineconeDriver, index: FakePinecone) -> None:
    memory = await pinecone.store("ada", "a kettle", "c")
    assert cost(index) == {"upsert": 2}
    await pinecone.store("ada", "a brief kettle", ttl=1_000)
    assert cost(index) == {"upsert": 3}
    long = await pinecone.store("ada", LONG)
    assert cost(index) == {"upsert": 3}
    await pinecone.get(memory.memory_id, "ada")
    assert cost(index) == {"fetch": 1}
    await pinecone.get(long.memory_id, "ada")
    assert cost(index) == {"fetch": 2}
    await pinecone.update(memory.memory_id, "ada", {"tags": ["x"]})
    assert cost(index) == {"fetch": 2, "upsert": 1}
    for way in ({}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}):
        await pinecone.recall("ada", "c", **way)
        assert cost(index) == {"query": 1}
    await pinecone.list_memories("ada")
    assert cost(index) == {"query": 1, "fetch": 1}  # the parts of the long one
    await pinecone.delete(memory.memory_id, "ada")
    assert cost(index) == {"fetch": 1, "delete": 2}
    await pinecone.delete(long.memory_id)
    assert cost(index) == {"list": 1, "fetch": 2, "delete": 2}
    await pinecone.list_users()
    assert cost(index) == {"namespaces": 1, "query": 2}
    await pinecone.list_users()
    assert cost(index) == {"namespaces": 1, "query": 1}


async def test_what_a_store_with_an_id_and_an_import_cost(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    for _ in range(2):
        memory = await pinecone.store("ada", "a kettle", memory_id=ONE)
    assert cost(index) == {"fetch": 2, "upsert": 2}
    await pinecone.import_records([memory])
    assert cost(index) == {"fetch": 1}


async def test_what_knowledge_and_documents_cost(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    await pinecone.store_global_knowledge("a kettle", "c")
    assert cost(index) == {"upsert": 1}
    await pinecone.recall_global_knowledge("kettle")
    assert cost(index) == {"query": 1}
    for _ in range(2):
        await pinecone.put_document("d", category="c", pieces=["one", "two"])
    first, second = {"fetch": 1, "query": 1, "upsert": 2}, {"fetch": 1, "delete": 1}
    calls = Counter(first) + Counter(first) + Counter(second)
    assert cost(index) == calls
    await pinecone.recall_global_knowledge("kettle")
    assert cost(index) == {"query": 1, "fetch": 1}


async def test_what_many_cost(pinecone: PineconeDriver, index: FakePinecone) -> None:
    many = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(250)]
    await pinecone.store_many(many)
    upserts = cost(index)["upsert"]
    assert upserts <= 6
    assert await pinecone.delete_user("ada") == 250
    calls = cost(index)
    assert (calls["list"], calls["fetch"]) == (4, 3)  # and one list for what failed calls left
    assert calls["delete"] <= 3 + 3 * 4
    assert index.vectors("m") == {}


async def test_the_sweeper_deletes_what_has_expired_and_looks_in_one_call(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    brief = await pinecone.store("ada", "a brief kettle", ttl=100)
    lasting = await pinecone.store("ada", "a kettle", ttl=10_000)
    moved = await pinecone.store("ada", "a moved kettle", ttl=100)
    await pinecone.update(moved.memory_id, "ada", {"ttl": 20_000})
    known = await pinecone.store_knowledge_many(
        [NewKnowledge(content="a kettle", category="c", ttl=100)]
    )
    index.asked.clear()
    assert await pinecone.sweeper.sweep() == 0
    assert cost(index) == {"list": 1}
    let_pass(pinecone, brief.created_at + timedelta(seconds=200))
    assert await pinecone.sweeper.sweep() == 2
    kept = {one.split("/m")[1] for one in index.vectors("m")}
    assert kept == {one.memory_id.replace("-", "") for one in (lasting, moved)}
    assert await pinecone.get_knowledge(known[0].knowledge_id) is None
    index.asked.clear()
    assert await pinecone.sweeper.sweep() == 0
    assert cost(index) == {"list": 1}


async def test_what_was_updated_is_deleted_a_day_after_it_expired(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    memory = await pinecone.store("ada", "a kettle")
    updated = await pinecone.update(memory.memory_id, "ada", {"ttl": 100})
    assert updated is not None
    let_pass(pinecone, memory.created_at + timedelta(hours=20))
    assert await pinecone.recall("ada") == []
    assert await pinecone.sweeper.sweep() == 0
    let_pass(pinecone, memory.created_at + timedelta(hours=25))
    assert await pinecone.sweeper.sweep() == 1
    assert index.vectors("m") == {}


async def test_of_a_forgotten_user_nothing_is_left(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    await pinecone.store("ada", LONG, metadata={"doc_id": "d"})
    await pinecone.store("ada", "a kettle", ttl=1_000)
    bob = await pinecone.store("bob", "a kettle")
    assert await pinecone.delete_user("ada") == 2
    left = {one.split("/")[0] for one in index.vectors()}
    users = [one for one in left if "-u-" in one]
    assert len(users) == 1
    owners = [one for one in index.vectors() if "-o-" in one]
    assert [one.split("/o")[1][:32] for one in owners] == [bob.memory_id.replace("-", "")]
    assert not index.vectors("e").keys() - set(owners)


async def test_what_tells_when_a_memory_expires_goes_with_it_or_with_that_moment(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    memory = await pinecone.store("ada", "a brief kettle", ttl=1_000)
    assert len(expiring(index)) == 1
    await pinecone.update(memory.memory_id, "ada", {"content": "a small kettle"})
    assert len(expiring(index)) == 1
    before = expiring(index)
    await pinecone.update(memory.memory_id, "ada", {"ttl": 2_000})
    assert len(expiring(index)) == 1
    assert expiring(index) != before
    index.asked.clear()
    await pinecone.delete(memory.memory_id, "ada")
    assert cost(index) == {"fetch": 1, "delete": 3}
    assert expiring(index) == []


@pytest.mark.parametrize("before", [True, False])
async def test_a_forget_up_to_a_moment_leaves_what_is_later(
    pinecone: PineconeDriver, before: bool
) -> None:
    await pinecone.store("ada", "old")
    moment = pinecone.clock.end_of_now()
    new = await pinecone.store("ada", "new")
    wanted = Forget("ada", moment) if before else Forget("ada")
    assert await pinecone._forget(wanted) == (1 if before else 2)
    assert await pinecone.recall("ada") == ([new] if before else [])
