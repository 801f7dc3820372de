"""What has expired is gone from kept answers, and from what the journal holds for a driver."""

from datetime import datetime, timedelta

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import OLDER_VERSIONS, Knowledge, Memory, Recalled
from app.errors import DriverUnavailable
from app.transfer.repair import repair
from tests.clocks import let_pass
from tests.conformance.cases import WAYS
from tests.conformance.test_expiry import expiry
from tests.wrappers.conftest import NewCached, OpenFailover, OpenReplicated
from tests.wrappers.held import Held
from tests.wrappers.settled import settle

TTL = 1_000.0


async def contents(driver: RecordDriver) -> list[list[str]]:
    """What every read of several memories of ada, and of knowledge, finds."""
    found: list[list[Memory] | list[Knowledge]] = [
        await driver.recall("ada", **arguments) for arguments in WAYS
    ]
    found.append((await driver.list_memories("ada")).memories)
    found.append(await driver.recall_global_knowledge("kettle"))
    found.append((await driver.list_knowledge()).knowledge)
    return [sorted(record.content for record in records) for records in found]


async def exported(driver: RecordDriver) -> list[str]:
    return sorted([record.content async for record in driver.export_records()])


def was_cached(found: object) -> bool:
    assert isinstance(found, Recalled)
    return found.cached


async def test_a_kept_answer_with_an_expired_record_is_asked_anew(cached: NewCached) -> None:
    driver = cached()
    memory = await driver.store("ada", "kettle", ttl=TTL)
    await driver.store("ada", "tea")
    knowledge = await driver.store_global_knowledge("kettle", "kitchen", ttl=2 * TTL)
    await driver.store_global_knowledge("tea", "kitchen")
    for hit in (False, True):
        memories = await driver.recall("ada")
        known = await driver.recall_global_knowledge("kettle")
        assert [was_cached(memories), was_cached(known)] == [hit, hit]
        assert [len(memories), len(known)] == [2, 2]
    let_pass(driver, expiry(memory))
    for hit in (False, True):
        memories = await driver.recall("ada")
        assert [record.content for record in memories] == ["tea"]
        assert was_cached(memories) == hit
    assert was_cached(await driver.recall_global_knowledge("kettle"))
    let_pass(driver, expiry(knowledge))
    for hit in (False, True):
        known = await driver.recall_global_knowledge("kettle")
        assert [record.content for record in known] == ["tea"]
        assert was_cached(known) == hit


async def test_what_is_pending_expires_too(failover: OpenFailover, first: Held) -> None:
    driver = await failover(writes="journal")
    first.error = DriverUnavailable()
    memory = await driver.store("ada", "kettle", ttl=TTL)
    knowledge = await driver.store_global_knowledge("kettle", "kitchen", ttl=TTL)
    assert await contents(driver) == [["kettle"]] * 6
    assert await driver.owner_of(memory.memory_id) == "ada"
    let_pass(driver, max(expiry(memory), expiry(knowledge)))
    assert await contents(driver) == [[]] * 6
    assert await driver.get(memory.memory_id, "ada") is None
    assert await driver.owner_of(memory.memory_id) is None
    assert await driver.get_knowledge(knowledge.knowledge_id) is None
    assert await driver.update(memory.memory_id, "ada", {"ttl": None}) is None
    assert await driver.update_knowledge(knowledge.knowledge_id, {"ttl": None}) is None
    assert await driver.delete_user("ada") == 0
    first.error = None
    await settle(driver)
    assert await contents(first) == [[]] * 6
    assert await exported(driver) == []


async def test_a_pending_update_that_expires_hides_what_the_driver_has(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    memory = await driver.store("ada", "kettle")
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    await second.import_records([memory, knowledge])
    first.error = DriverUnavailable()
    short = await driver.update(memory.memory_id, "ada", {"ttl": TTL})
    known = await driver.update_knowledge(knowledge.knowledge_id, {"ttl": TTL})
    assert await contents(driver) == [["kettle"]] * 6
    let_pass(driver, max(expiry(short), expiry(known)))
    assert await contents(driver) == [[]] * 6
    assert await driver.get(memory.memory_id, "ada") is None
    assert await driver.get_knowledge(knowledge.knowledge_id) is None
    first.error = None
    await settle(driver)
    assert await contents(driver) == [[]] * 6
    assert await exported(driver) == []


async def test_a_pending_update_keeps_what_expires_on_the_driver(
    failover: OpenFailover, first: Held, second: Held
) -> None:
    driver = await failover(writes="journal")
    memory = await driver.store("ada", "kettle", ttl=TTL)
    knowledge = await driver.store_global_knowledge("kettle", "kitchen", ttl=TTL)
    await second.import_records([memory, knowledge])
    first.error = DriverUnavailable()
    longer = await driver.update(memory.memory_id, "ada", {"expires_at": None})
    assert await driver.update_knowledge(knowledge.knowledge_id, {"ttl": 5 * TTL}) is not None
    let_pass(driver, max(expiry(memory), expiry(knowledge)))
    assert await second.recall("ada") == []
    assert await contents(driver) == [["kettle"]] * 6
    first.error = None
    assert first.sweep() == 2
    await settle(driver)
    assert await contents(driver) == [["kettle"]] * 6
    assert await exported(driver) == ["kettle", "kettle"]
    assert await first.get(memory.memory_id, "ada") == longer


async def test_a_replica_that_was_away_gets_what_has_expired_meanwhile_and_shows_nothing(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated()
    stored = await driver.store("ada", "kettle")
    await settle(driver)
    second.error = DriverUnavailable()
    updated = await driver.update(stored.memory_id, "ada", {"ttl": TTL})
    new = await driver.store("ada", "kettle", ttl=TTL)
    assert await driver.members.journal.count()
    let_pass(driver, max(expiry(updated), expiry(new)))
    assert await contents(driver) == [[]] * 6
    assert await exported(driver) == []
    second.error = None
    await settle(driver)
    for held in (first, second):
        assert await contents(held) == [[]] * 6
        held.sweep()
        assert await held.get(new.memory_id, "ada") is None


async def test_a_primary_that_is_away_is_answered_for_without_what_has_expired(
    replicated: OpenReplicated, first: Held, second: Held
) -> None:
    driver = await replicated(acknowledge="journal")
    await driver.store("ada", "tea")
    await settle(driver)
    first.error = DriverUnavailable()
    short = await driver.store("ada", "kettle", ttl=TTL)
    assert len(await driver.recall("ada")) == 2
    let_pass(driver, expiry(short))
    assert [memory.content for memory in await driver.recall("ada")] == ["tea"]
    assert await driver.get(short.memory_id, "ada") is None
    first.error = None
    await settle(driver)
    for held in (first, second):
        assert [memory.content for memory in await held.recall("ada")] == ["tea"]


async def test_an_older_version_that_comes_late_does_not_bring_back_what_expired(
    first: Held,
) -> None:
    memory = await first.store("ada", "kettle")
    updated = await first.update(memory.memory_id, "ada", {"ttl": TTL})
    let_pass(first, expiry(updated))
    assert first.sweep() == 0
    await first.import_records([memory])
    assert await first.recall("ada") == []
    let_pass(first, expiry(updated) + OLDER_VERSIONS)
    assert first.sweep() == 1
    assert first.sweep() == 0


async def test_a_repair_deletes_an_older_version_of_what_has_expired(
    first: Held, second: Held
) -> None:
    memory = await first.store("ada", "kettle")
    await second.import_records([memory])
    updated = await first.update(memory.memory_id, "ada", {"ttl": TTL})
    moment: datetime = expiry(updated) + timedelta(seconds=1)
    let_pass(first, moment)
    let_pass(second, moment)
    found = await repair(first, second)
    assert (found.missing, found.different, found.extra) == (0, 0, 1)
    assert await second.get(memory.memory_id, "ada") is None
    assert (await repair(first, second)).none
