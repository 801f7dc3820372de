"""What citus.sql does without Citus's functions: the tables that it leaves serve."""

from pathlib import Path

import asyncpg

from tests.conformance.cases import WAYS
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver

OF_CITUS = ("select create_", "select truncate_", "create extension")
LONG = "Ada waters the basil on Sundays. " * 100 + "Her kettle is made of copper."
WINDOWS = "select count(*) from memory_windows where memory_id = $1"


async def test_without_triggers_nobody_stays_and_windows_go_with_their_memories(
    new_database: NewDatabase, open_driver: OpenDriver, root: Path
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    before = await driver.store("ada", LONG)
    connection = await asyncpg.connect(url)
    lines = (root / "alembic/distributed/citus.sql").read_text().splitlines()
    await connection.execute("\n".join(line for line in lines if not line.startswith(OF_CITUS)))
    after = await driver.store("ada", LONG)
    for memory in (before, after):
        assert await connection.fetchval(WINDOWS, memory.memory_id) > 0
    for arguments in (*WAYS, *WAYS):
        found = await driver.recall("ada", **arguments)
        assert {memory.memory_id for memory in found} == {before.memory_id, after.memory_id}
    assert len(await driver.recall("ada", query="a copper kettle")) == 2
    assert (await driver.health_check()).facts["resident_users"] == 0
    assert (await driver.update(after.memory_id, "ada", {"content": "Ada has tea."})) is not None
    assert await driver.delete(before.memory_id, "ada")
    assert await connection.fetchval("select count(*) from memory_windows") == 0
    assert len(await driver.recall("ada", query="tea", use_vector=False)) == 1
    await connection.close()
