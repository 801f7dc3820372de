"""A large user is forgotten in pieces, each within the statement's deadline; nothing stays."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import NewMemory, UserCount
from app.core.memory.requests import Forget
from app.errors import DriverTimeout
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver

MANY = 200_000
FILL = """
    insert into memories (
        user_id, memory_id, content, tags, metadata, created_at, updated_at, expires_at, outline
    )
    select 'ada', lpad(to_hex(n), 32, '0')::uuid, 'kettle', '{}', '{}', now(), now(),
        case when n % 10 = 0 then now() - interval '1 hour' end, '\\x00'
    from generate_series(0, $1::int - 1) as n
"""
"""Memories without vectors, of which every tenth has expired."""

LONG = "Ada waters the basil on Sundays. " * 100
TABLES = ("memories", "memory_windows", "global_knowledge", "knowledge_windows")
LEFT = f"select {', '.join(f'(select count(*) from {table})' for table in TABLES)}"  # noqa: S608
COLUMNS = "select * from memory_changes limit 1"


async def left(url: str) -> list[int]:
    """How many rows each of `TABLES` has."""
    connection = await asyncpg.connect(url)
    row = await connection.fetchrow(LEFT)
    await connection.close()
    assert row is not None
    return list(row)


async def test_two_hundred_thousand_memories_go_with_a_time_out_of_a_second(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    url = await new_database()
    connection = await asyncpg.connect(url)
    await connection.execute("alter table memories alter column embedding drop not null")
    await connection.execute("alter table memories disable trigger memories_insert")
    await connection.execute(FILL, MANY)
    await connection.close()
    driver = await open_driver(url, timeout=1)
    await driver.store("bob", "kettle")
    alive = MANY - MANY // 10
    assert (await driver.list_users()).users == [UserCount("ada", alive), UserCount("bob", 1)]
    assert await driver.delete_user("ada") == alive
    assert await left(url) == [1, 0, 0, 0]
    assert (await driver.list_users()).users == [UserCount("bob", 1)]


async def test_a_forget_that_breaks_off_goes_on_when_it_is_repeated(
    new_database: NewDatabase, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.driver.FORGOTTEN_AT_ONCE", 10)
    url = await new_database()
    driver = await open_driver(url, timeout=0.5)
    memories = await driver.store_many([NewMemory(user_id="ada", content="kettle")] * 35)
    holder = await asyncpg.connect(url)
    holding = holder.transaction()
    await holding.start()
    one = "select from memories where memory_id = $1 for update"
    await holder.execute(one, memories[25].memory_id)
    pieces: list[None] = []

    def on_piece() -> None:
        pieces.append(None)

    with pytest.raises(DriverTimeout):
        await driver._forget(Forget("ada", on_piece=on_piece))
    assert len(pieces) == 2
    assert await left(url) == [15, 0, 0, 0]
    await holding.rollback()
    await holder.close()
    assert await driver._forget(Forget("ada", on_piece=on_piece)) == 15
    assert len(pieces) == 4
    assert await driver.delete_user("ada") == 0


async def test_two_who_forget_a_user_at_once_count_each_memory_once(
    new_database: NewDatabase, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.driver.FORGOTTEN_AT_ONCE", 7)
    driver = await open_driver(await new_database())
    await driver.store_many([NewMemory(user_id="ada", content="kettle")] * 200)
    counts = await asyncio.gather(*(driver.delete_user("ada") for _ in range(3)))
    assert sum(counts) == 200


async def test_the_least_and_the_greatest_id_are_forgotten_too(
    new_database: NewDatabase, open_driver: OpenDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.drivers.pgvector.driver.FORGOTTEN_AT_ONCE", 1)
    url = await new_database()
    driver = await open_driver(url)
    memory = await driver.store("ada", "kettle")
    connection = await asyncpg.connect(url)
    for number, one in ((0, memory), (2**128 - 1, await driver.store("ada", "kettle"))):
        moved = "update memories set memory_id = $2 where memory_id = $1"
        await connection.execute(moved, one.memory_id, UUID(int=number))
    await connection.close()
    assert await driver.delete_user("ada") == 2
    assert await left(url) == [0, 0, 0, 0]


async def _delete(driver: RecordDriver, memory_id: str, knowledge_id: str) -> None:
    assert await driver.delete(memory_id, "ada")
    assert await driver.delete_knowledge(knowledge_id)


async def _delete_many(driver: RecordDriver, memory_id: str, knowledge_id: str) -> None:
    assert await driver.delete_many("ada", "kitchen") == 1
    assert await driver.delete_knowledge(knowledge_id)


async def _forget(driver: RecordDriver, memory_id: str, knowledge_id: str) -> None:
    assert await driver.delete_user("ada") == 1
    assert await driver.delete_knowledge(knowledge_id)


@pytest.mark.parametrize("way", [_delete, _delete_many, _forget])
async def test_each_kind_of_delete_leaves_no_row_and_no_content(
    new_database: NewDatabase, open_driver: OpenDriver, way: Any
) -> None:
    url = await new_database()
    driver = await open_driver(url)
    memory = await driver.store("ada", LONG, "kitchen", metadata={"room": "kitchen"})
    await driver.store("bob", "kettle", "kitchen")
    knowledge = await driver.store_global_knowledge(LONG, "kitchen")
    before = await left(url)
    assert before[0] == 2
    assert all(before)
    for _ in range(2):
        await driver.recall("ada", query="basil")
    async with asyncio.timeout(5):
        while not (await driver.health_check()).facts["resident_users"]:
            await asyncio.sleep(0.01)
    await way(driver, memory.memory_id, knowledge.knowledge_id)
    assert await left(url) == [1, 0, 0, 0]
    assert await driver.recall("ada", query="basil") == []
    assert await driver.recall_global_knowledge("basil") == []
    connection = await asyncpg.connect(url)
    changed = await connection.fetchrow(COLUMNS)
    await connection.close()
    assert changed is not None
    assert set(changed.keys()) == {"user_id", "written", "memory_id", "marked_at"}


async def test_a_forgotten_user_is_not_resident_any_more(
    new_database: NewDatabase, open_driver: OpenDriver
) -> None:
    driver = await open_driver(await new_database())
    await driver.store("ada", "kettle")
    await driver.recall("ada", query="kettle")
    async with asyncio.timeout(5):
        while not (await driver.health_check()).facts["resident_users"]:
            await asyncio.sleep(0.01)
    assert await driver.delete_user("ada") == 1
    assert (await driver.health_check()).facts["resident_users"] == 0
