"""The service on tables that were made partitions: everything works, and a user's are in one."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from app.core.memory.records import Memory, NewMemory
from app.drivers.pgvector.sql import memories as sql
from tests.conformance.cases import WAYS
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver


async def test_the_service_works_on_partitioned_memories(
    new_database: NewDatabase, open_driver: OpenDriver, root: Path
) -> None:
    url = await new_database()
    before = await (await open_driver(url)).store("ada", "Ada has a kettle of copper.")
    connection = await asyncpg.connect(url)
    indexes = "select indexname from pg_indexes where tablename = 'memories' order by 1"
    named = await connection.fetch(indexes)
    await connection.execute((root / "alembic/distributed/partitioned.sql").read_text())
    assert await connection.fetch(indexes) == named

    driver = await open_driver(url)
    stored = await driver.store_many(
        [NewMemory(user_id=f"user {n % 9}", content=f"kettle {n}") for n in range(90)]
    )
    assert await driver.get(before.memory_id, "ada") == before
    for arguments in WAYS:
        found = await driver.recall("ada", **arguments)
        assert [memory.memory_id for memory in found] == [before.memory_id]
    assert len((await driver.list_memories("user 3")).memories) == 10
    updated = await driver.update(before.memory_id, "ada", {"content": "Ada has tea."})
    assert updated is not None
    found = await driver.recall("ada", query="tea", use_vector=False)
    assert [replace(memory, score=None) for memory in found] == [updated]
    later = replace(updated, tags=["a"], updated_at=updated.updated_at + timedelta(seconds=1))
    await driver.import_records([before, later, stored[0]])
    assert await driver.get(before.memory_id, "ada") == later
    exported = [record async for record in driver.export_records()]
    assert {record.memory_id for record in exported if isinstance(record, Memory)} == {
        memory.memory_id for memory in [before, *stored]
    }
    assert await driver.delete(stored[0].memory_id)
    assert await driver.delete(stored[1].memory_id, stored[1].user_id)
    assert await driver.delete_user("user 3") == 10

    await connection.execute("set plan_cache_mode = force_generic_plan")
    explain = f"explain (analyze, format json) {sql.GET_OF_USER}"
    plan = json.loads(
        await connection.fetchval(explain, before.memory_id, datetime.now(UTC), "ada")
    )[0]["Plan"]
    await connection.close()
    read = [node for node in plan.get("Plans", [plan]) if node["Actual Loops"] > 0]
    assert [node["Relation Name"].rpartition("_")[0] for node in read] == ["memories"]
