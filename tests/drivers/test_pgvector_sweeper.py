"""Expired records are deleted from every table, by one service or several, and counted."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from app.core.memory.moments import MICROSECOND
from app.core.memory.records import OLDER_VERSIONS
from app.drivers.pgvector import PgvectorDriver, sweeper
from app.drivers.pgvector.checks import Connection
from app.drivers.pgvector.sql import expired as sql
from tests.clocks import let_pass
from tests.conformance.test_expiry import expiry
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.plans import plans
from tests.drivers.resident import residents
from tests.drivers.test_pgvector_read_only import make_read_only
from tests.wrappers.held import until

TTL = 1_000.0
LONG = "Ada waters the basil on Sundays. " * 100 + "Her kettle is made of copper."

COUNTS = """
    select (select count(*) from memories) as memories,
        (select count(*) from memory_windows) as memory_windows,
        (select count(*) from global_knowledge) as knowledge,
        (select count(*) from knowledge_windows) as knowledge_windows
"""
MANY = """
    insert into memories (user_id, memory_id, content, tags, metadata, created_at, updated_at,
        expires_at, embedding, outline)
    select user_id, gen_random_uuid(), content, tags, metadata, created_at, updated_at,
        expires_at, embedding, outline
    from memories, generate_series(2, $1::int)
"""


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


async def counts(connection: Connection) -> Mapping[str, int]:
    row = await connection.fetchrow(COUNTS)
    assert row is not None
    return dict(row)


def swept(driver: PgvectorDriver) -> float:
    """What the metric tells."""
    labels = {"driver": driver.name}
    return REGISTRY.get_sample_value("memory_driver_expired_total", labels) or 0.0


async def test_what_expired_is_deleted_from_every_table_and_counted(
    url: str, connection: Connection, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    driver.name = "swept"
    expired = [await driver.store("ada", LONG, ttl=TTL) for _ in range(3)]
    await driver.store("ada", LONG)
    known = await driver.store_global_knowledge(LONG, "kitchen", ttl=TTL)
    await driver.store_global_knowledge(LONG, "kitchen", ttl=10 * TTL)
    before = await counts(connection)
    assert before["memories"] == 4
    assert before["memory_windows"] >= 4
    with capture_logs() as logs:
        assert await driver.sweeper.sweep() == 0
        assert await counts(connection) == before
        let_pass(driver, max(expiry(known), *map(expiry, expired)))
        assert await driver.sweeper.sweep() == 4
        assert await driver.sweeper.sweep() == 0
    assert logs == []
    assert await counts(connection) == {
        "memories": 1,
        "memory_windows": before["memory_windows"] / 4,
        "knowledge": 1,
        "knowledge_windows": before["knowledge_windows"] / 2,
    }
    assert swept(driver) == 4


async def test_many_are_deleted_by_several_statements_through_the_index(
    url: str, connection: Connection, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    expired = await driver.store("ada", "kettle", ttl=TTL)
    await connection.execute(MANY, 2_300)
    lasting = await driver.store("ada", "tea")
    await connection.execute("analyze memories")
    let_pass(driver, expiry(expired))
    now = expiry(expired) + MICROSECOND
    async with plans(url) as planned:
        nodes = await planned.run(sql.DELETE[0], now, now - OLDER_VERSIONS)
    assert "memories_expiring" in [node.get("Index Name") for node in nodes]
    assert (await counts(connection))["memories"] == 2_301 - sql.AT_ONCE
    assert await driver.sweeper.sweep() == 2_300 - sql.AT_ONCE
    assert [memory.memory_id for memory in await driver.recall("ada")] == [lasting.memory_id]
    assert (await counts(connection))["memories"] == 1


async def test_what_was_updated_stays_until_no_older_version_can_come(
    url: str, connection: Connection, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    first = await driver.store("ada", "kettle")
    updated = await driver.update(first.memory_id, "ada", {"ttl": TTL})
    knowledge = await driver.store_global_knowledge("kettle", "kitchen")
    known = await driver.update_knowledge(knowledge.knowledge_id, {"ttl": TTL})
    let_pass(driver, max(expiry(updated), expiry(known)))
    assert await driver.sweeper.sweep() == 0
    await driver.import_records([first, knowledge])  # as a journal may bring it late
    assert await driver.get(first.memory_id, "ada") is None
    assert await driver.get_knowledge(knowledge.knowledge_id) is None
    let_pass(driver, max(expiry(updated), expiry(known)) + OLDER_VERSIONS)
    assert await driver.sweeper.sweep() == 2
    assert set((await counts(connection)).values()) == {0}


async def test_what_another_transaction_changes_is_not_waited_for(
    url: str, connection: Connection, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    stored = [await driver.store("ada", f"kettle {n}", ttl=TTL) for n in range(5)]
    let_pass(driver, expiry(stored[-1]))
    lengthened, locked = stored[0].memory_id, stored[1].memory_id
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(
        "update memories set expires_at = null, updated_at = now() where memory_id = $1",
        lengthened,
    )
    await connection.execute("select from memories where memory_id = $1 for update", locked)
    assert await driver.sweeper.sweep() == 3
    await transaction.commit()
    assert await driver.sweeper.sweep() == 1
    (left,) = await driver.recall("ada")
    assert left.memory_id == lengthened


async def test_a_user_who_stays_in_memory_loses_what_was_swept(
    url: str, open_driver: OpenDriver
) -> None:
    driver = await open_driver(url)
    expired = await driver.store("ada", "kettle", ttl=TTL)
    lasting = await driver.store("ada", "kettle")
    await driver.recall("ada", query="kettle")

    async def stays() -> bool:
        return await residents(driver) == 1

    await until(stays)
    assert len(await driver.recall("ada", query="kettle")) == 2
    other = await open_driver(url)
    let_pass(other, expiry(expired))
    assert await other.sweeper.sweep() == 1
    found = await driver.recall("ada", query="kettle")
    assert [memory.memory_id for memory in found] == [lasting.memory_id]
    assert await stays()


async def test_an_open_driver_sweeps_by_itself(
    url: str, connection: Connection, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "PAUSE_SECONDS", 0.02)
    driver = await open_driver(url)
    await driver.store("ada", "kettle", ttl=0.05)
    await driver.store_global_knowledge("kettle", "kitchen", ttl=0.05)

    async def empty() -> bool:
        return not any((await counts(connection)).values())

    await until(empty)


async def test_a_database_that_takes_no_writes_is_left_alone(
    url: str, connection: Connection, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeper, "PAUSE_SECONDS", 0.01)
    driver = await open_driver(url)
    memory = await driver.store("ada", "kettle", ttl=TTL)
    await driver.close()
    await make_read_only(url)
    with capture_logs() as logs:
        again = await open_driver(url)
        let_pass(again, expiry(memory))
        await again.sweeper.work()
        assert await again.recall("ada") == []
    assert (await counts(connection))["memories"] == 1
    assert [line["event"] for line in logs if line["log_level"] != "info"] in (
        [],
        ["postgresql_read_only"],
    )


async def test_partitions_are_swept(
    url: str, connection: Connection, open_driver: OpenDriver, root: Path
) -> None:
    driver = await open_driver(url)
    stored = [await driver.store(f"user {n}", LONG, ttl=TTL) for n in range(9)]
    await connection.execute((root / "alembic/distributed/partitioned.sql").read_text())
    driver = await open_driver(url)
    let_pass(driver, expiry(stored[-1]) + timedelta(seconds=1))
    assert await driver.sweeper.sweep() == 9
    assert set((await counts(connection)).values()) == {0}
