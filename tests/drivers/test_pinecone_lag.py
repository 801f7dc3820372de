"""What Pinecone shows late, this process shows at once; what another process sees, and when."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Knowledge, Memory, NewMemory, UserCount
from app.drivers.pinecone import PineconeDriver
from app.drivers.pinecone.overlay import SECONDS
from app.errors import DriverUnavailable
from tests.conformance.cases import WAYS
from tests.drivers.conftest import OpenPinecone
from tests.drivers.pinecone_fake import FakePinecone

READS = ("query", "fetch", "list", "namespaces")
LATE = 60.0


def delay(index: FakePinecone, **seconds: float) -> None:
    index.delays.update(dict.fromkeys(READS, 0.0) | seconds)


async def reads(driver: RecordDriver, user: str = "ada") -> dict[str, list[str]]:
    """What each way of reading finds of a user's memories."""
    found = {str(way): await driver.recall(user, top_k=100, **way) for way in WAYS}
    found["list"] = (await driver.list_memories(user, limit=100)).memories
    found["conversation"] = (await driver.list_memories(user, "kitchen", limit=100)).memories
    found["export"] = [r async for r in driver.export_records() if isinstance(r, Memory)]
    return {way: sorted(memory.content for memory in some) for way, some in found.items()}


def everywhere(*contents: str) -> dict[str, list[str]]:
    ways = [*map(str, WAYS), "list", "conversation", "export"]
    return dict.fromkeys(ways, sorted(contents))


@pytest.mark.parametrize("lsn", [True, False], ids=["with LSN", "without LSN"])
@pytest.mark.parametrize(
    "late",
    [dict.fromkeys(READS, LATE), *({each: LATE} for each in READS)],
    ids=["all", *READS],
)
async def test_what_was_written_is_seen_at_once_and_what_was_deleted_is_not(
    pinecone: PineconeDriver, index: FakePinecone, late: dict[str, float], lsn: bool
) -> None:
    index.tells_lsn = lsn
    delay(index, **late)
    kettle = await pinecone.store("ada", "a kettle", "kitchen")
    pan = await pinecone.store("ada", "a kettle and a pan", "kitchen")
    assert await reads(pinecone) == everywhere("a kettle", "a kettle and a pan")
    assert await pinecone.get(kettle.memory_id, "ada") == kettle
    assert await pinecone.owner_of(kettle.memory_id) == "ada"
    assert (await pinecone.list_users()).users == [UserCount("ada", 2)]
    updated = await pinecone.update(pan.memory_id, "ada", {"content": "a large kettle"})
    assert await reads(pinecone) == everywhere("a kettle", "a large kettle")
    assert await pinecone.get(pan.memory_id, "ada") == updated
    assert await pinecone.delete(kettle.memory_id)
    assert not await pinecone.delete(kettle.memory_id, "ada")
    assert await reads(pinecone) == everywhere("a large kettle")
    assert await pinecone.get(kettle.memory_id, "ada") is None
    assert (await pinecone.list_users()).users == [UserCount("ada", 1)]
    assert await pinecone.delete_user("ada") == 1
    assert await reads(pinecone) == everywhere()
    assert (await pinecone.list_users()).users == []
    index.time += LATE
    assert await reads(pinecone) == everywhere()


async def test_a_version_that_pinecone_shows_first_does_not_come_back(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    memory = await pinecone.store("ada", "a kettle", "kitchen", ["old"])
    index.time += LATE
    delay(index, **dict.fromkeys(READS, LATE))
    await pinecone.update(memory.memory_id, "ada", {"tags": ["new"], "conversation_id": "garden"})
    assert await pinecone.recall("ada", "kitchen") == []
    assert await pinecone.recall("ada", filter={"tags": {"any": ["old"]}}, query="kettle") == []
    assert len(await pinecone.recall("ada", "garden", exclude_tags=["old"])) == 1
    assert len(await pinecone.recall("ada", filter={"tags": {"all": ["new"]}}, query="a")) == 1


async def test_servers_that_answer_in_turn_and_differ_show_one_state(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    index.lags = [0.0, LATE]
    gone = await pinecone.store("ada", "a kettle", "kitchen")
    for n in range(6):
        await pinecone.store("ada", f"a kettle {n}", "kitchen")
    await pinecone.delete(gone.memory_id, "ada")
    for _ in range(3):
        assert await reads(pinecone) == everywhere(*(f"a kettle {n}" for n in range(6)))
        index.time += LATE / 4


async def test_another_process_sees_a_write_when_pinecone_shows_it(
    pinecone: PineconeDriver, index: FakePinecone, open_pinecone: OpenPinecone
) -> None:
    other = await open_pinecone()
    delay(index, **dict.fromkeys(READS, LATE))
    memory = await pinecone.store("ada", "a kettle", "kitchen")
    assert await reads(other) == everywhere()
    index.time += LATE
    assert await reads(other) == everywhere("a kettle")
    assert await other.delete(memory.memory_id, "ada")
    index.time += LATE
    assert await other.get(memory.memory_id, "ada") is None


async def test_with_an_lsn_a_recall_sees_what_another_process_has_deleted(
    pinecone: PineconeDriver, index: FakePinecone, open_pinecone: OpenPinecone
) -> None:
    other = await open_pinecone()
    memory = await pinecone.store("ada", "a kettle", "kitchen")
    assert await other.delete(memory.memory_id, "ada")
    for way in WAYS:
        assert await pinecone.recall("ada", **way) == []
    assert (await pinecone.list_memories("ada")).memories == []


async def test_without_an_lsn_a_recall_sees_it_once_the_write_is_old(
    pinecone: PineconeDriver, index: FakePinecone, open_pinecone: OpenPinecone
) -> None:
    index.tells_lsn = False
    other = await open_pinecone()
    memory = await pinecone.store("ada", "a kettle")
    assert await other.delete(memory.memory_id, "ada")
    assert await pinecone.recall("ada") == [memory]
    index.time += SECONDS
    assert await pinecone.recall("ada") == []
    assert await pinecone.get(memory.memory_id, "ada") is None


async def test_another_process_s_later_version_is_seen_though_we_wrote_lately(
    pinecone: PineconeDriver, open_pinecone: OpenPinecone
) -> None:
    other = await open_pinecone()
    memory = await pinecone.store("ada", "a kettle", "kitchen")
    await other.update(memory.memory_id, "ada", {"content": "a larger kettle"})
    assert await reads(pinecone) == everywhere("a larger kettle")


async def test_what_was_deleted_does_not_use_up_the_limit(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(answer_bytes=200_000)
    many = [NewMemory(user_id="ada", content=f"kettle {n}") for n in range(60)]
    stored = await driver.store_many(many)
    index.time += LATE
    delay(index, query=LATE)
    for memory in stored[15:]:
        assert await driver.delete(memory.memory_id, "ada")
    left = {memory.memory_id for memory in stored[:15]}
    for way in WAYS:
        found = await driver.recall("ada", top_k=10, **way)
        assert len(found) == 10
        assert {memory.memory_id for memory in found} < left
    page = await driver.list_memories("ada", limit=100)
    assert {memory.memory_id for memory in page.memories} == left


async def test_a_fetch_that_lags_behind_the_list_loses_no_record(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    delay(index, fetch=LATE)
    knowledge = await pinecone.store_global_knowledge("a kettle " * 3_000, "kitchen")
    assert await pinecone.get_knowledge(knowledge.knowledge_id) == knowledge
    exported = [r async for r in pinecone.export_records() if isinstance(r, Knowledge)]
    assert exported == [knowledge]
    [found] = await pinecone.recall_global_knowledge("kettle")
    assert replace(found, score=None) == knowledge


async def test_a_record_that_pinecone_shows_in_part_is_refused_and_never_cut(
    pinecone: PineconeDriver, index: FakePinecone, open_pinecone: OpenPinecone
) -> None:
    text = "".join(chr(0x4E00 + n * 7919 % 20_000) for n in range(32_000))
    memory = await pinecone.store("ada", text)
    [name] = [name for name in index.spaces if "-u-" in name]
    parts = [one for one in index.spaces[name].now if one[0] == "p"]
    assert len(parts) > 2
    other = await open_pinecone()
    whole = index.spaces[name].now.pop(parts[1])
    with pytest.raises(DriverUnavailable):
        await other.get(memory.memory_id, "ada")
    with pytest.raises(DriverUnavailable):
        await other.recall("ada")
    index.spaces[name].now[parts[1]] = whole
    assert await other.get(memory.memory_id, "ada") == memory


async def store_kettles(driver: RecordDriver) -> None:
    for n in range(100):
        await driver.store("ada", f"a kettle {n}")


async def test_more_than_is_remembered_waits_for_pinecone_to_show_it(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(overlay_bytes=60_000)
    delay(index, query=LATE)
    with pytest.raises(DriverUnavailable):
        await store_kettles(driver)
    count = len(await driver.recall("ada", top_k=100))
    assert 0 < count < 40
    index.time += LATE  # the queries show it now
    for n in range(40):
        await driver.store("ada", f"a pan {n}")
        index.time += LATE
    assert len(await driver.recall("ada", top_k=100)) == count + 40


async def test_without_an_lsn_no_more_is_taken_than_is_remembered(
    open_pinecone: OpenPinecone, index: FakePinecone
) -> None:
    driver = await open_pinecone(overlay_bytes=60_000)
    index.tells_lsn = False
    with pytest.raises(DriverUnavailable):
        await store_kettles(driver)
    index.time += SECONDS
    await driver.store("ada", "another kettle")


async def test_matches_that_were_missed_come_back_with_what_was_written_lately(
    pinecone: PineconeDriver, index: FakePinecone
) -> None:
    index.misses = True
    index.tells_lsn = False
    for n in range(5):
        await pinecone.store("ada", f"a kettle {n}")
    for _ in range(4):
        assert len(await pinecone.recall("ada", query="kettle")) == 5


async def test_a_later_clock_of_another_process_does_not_hide_what_was_put(
    pinecone: PineconeDriver, open_pinecone: OpenPinecone
) -> None:
    other = await open_pinecone()
    ahead = pinecone.clock.now() + timedelta(seconds=30)
    kept = await pinecone.put_document("kettles", category="c", pieces=["one", "two"])
    other.clock = type(other.clock)()
    other.clock.set_floor(ahead.timestamp())
    again: Any = await other.put_document("kettles", category="c", pieces=["three"])
    for driver in (pinecone, other):
        page = await driver.list_knowledge(doc_id="kettles")
        assert page.knowledge == again != kept
