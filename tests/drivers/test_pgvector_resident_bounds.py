"""How many users are kept, who goes first, and when nobody is kept."""

import asyncio
from itertools import count

import asyncpg
import pytest

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.settings import RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import (
    Chance,
    become_resident,
    contents,
    execute,
    residents,
    statements,
    store,
)

_NUMBERS = count(10)


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


async def opened(
    open_driver: OpenDriver, embedder: Embedder, url: str, megabytes: int
) -> PgvectorDriver:
    recall = RecallSettings(resident_mb=megabytes)
    return await open_driver(
        url, instead=Chance(embedder.dimension), recall=recall, pool_max_size=1
    )


async def store_large(driver: PgvectorDriver, user: str, size: int) -> None:
    await driver.store_many([NewMemory(user_id=user, content=f"kettle {n}") for n in range(size)])


async def asked(driver: PgvectorDriver, user: str) -> list[str]:
    """The statements of a recall that was not asked before."""
    async with statements(driver) as seen:
        await driver.recall(user, query=f"kettle {next(_NUMBERS)}")
    return seen


async def settled(driver: PgvectorDriver, user: str) -> list[str]:
    """The statements of a recall, once nothing is read in the background."""
    await driver.recall(user, query="kettle 7")
    seen = await asked(driver, user)
    async with asyncio.timeout(10):
        while (again := await asked(driver, user)) != seen:
            seen = again
    return seen


async def test_the_least_recently_used_goes_first_and_the_bound_holds(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await opened(open_driver, embedder, url, 1)
    for user in ("ada", "bob", "cleo", "dan"):
        await store_large(driver, user, 125)
    await become_resident(driver, "ada", "bob", "cleo")
    await driver.recall("ada", query="kettle")
    await driver.recall("dan", query="kettle")
    async with asyncio.timeout(10):
        while sql.CHANGED not in await asked(driver, "dan"):
            await asyncio.sleep(0.01)
    facts = (await driver.health_check()).facts
    assert facts["resident_users"] == 3
    assert 0.6 < facts["resident_mb"] <= 1
    assert [sql.CHANGED in await asked(driver, user) for user in ("ada", "cleo")] == [True, True]
    assert sql.CHANGED not in await asked(driver, "bob")


async def test_users_without_a_memory_take_room_too(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await opened(open_driver, embedder, url, 1)
    for n in range(400):
        await driver.recall(f"nobody {n}", query="kettle")
    async with asyncio.timeout(10):
        while sql.CHANGED not in await asked(driver, "nobody 399"):
            await asyncio.sleep(0.01)
    facts = (await driver.health_check()).facts
    assert 100 < facts["resident_users"] < 400
    assert facts["resident_mb"] <= 1


async def test_of_a_user_too_large_for_vectors_the_outlines_are_kept(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    small = await opened(open_driver, embedder, url, 1)
    await store_large(small, "ada", 500)
    await become_resident(small, "ada")
    assert await settled(small, "ada") == [sql.CHANGED, sql.COSINES[False, False], sql.RECORDS]
    none = await opened(open_driver, embedder, url, 0)
    for query in ("kettle 7", "kettle 499 and kettle 3", "nothing"):
        assert await small.recall("ada", query=query) == await none.recall("ada", query=query)
        by_words = await small.recall("ada", query=query, use_vector=False)
        assert by_words == await none.recall("ada", query=query, use_vector=False)
    await execute(url, "delete from memories where content = 'kettle 7'")
    await store(small, "ada", "kettle 7 again")
    changed = await asked(small, "ada")
    assert sql.UNSEEN[False] in changed
    assert sql.WHOLE[0].outlines not in changed
    assert await small.recall("ada", query="kettle 7") == await none.recall("ada", query="kettle 7")


async def test_of_a_user_whose_texts_are_too_large_the_outlines_are_kept(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    small = await opened(open_driver, embedder, url, 1)
    await store(small, "ada", *(f"kettle {n} " + "\U0001f98a" * 4_000 for n in range(50)))
    assert await settled(small, "ada") == [sql.CHANGED, sql.COSINES[False, False], sql.RECORDS]
    assert (await small.health_check()).facts["resident_mb"] < 0.5


async def test_a_user_too_large_for_anything_is_answered_by_postgresql_alone(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    small = await opened(open_driver, embedder, url, 1)
    await store_large(small, "ada", 1_000)
    await store_large(small, "ada", 1_000)
    seen = await settled(small, "ada")
    assert seen[0] == sql.WHOLE[0].outlines
    assert sql.READING not in seen
    assert await residents(small) == 0
    none = await opened(open_driver, embedder, url, 0)
    assert await small.recall("ada", query="kettle 7") == await none.recall("ada", query="kettle 7")


@pytest.mark.parametrize(
    "untold",
    [
        "alter table memories disable trigger memories_insert",
        "alter table memories enable trigger memories_update",
        "alter table memories enable replica trigger memories_delete",
        "drop trigger memories_truncate on memories",
    ],
)
async def test_where_not_every_change_is_told_nobody_is_kept(
    url: str, open_driver: OpenDriver, embedder: Embedder, untold: str
) -> None:
    driver = await opened(open_driver, embedder, url, 1)
    await store(driver, "ada", "kettle")
    await execute(url, untold)
    seen = await settled(driver, "ada")
    assert sql.CHANGED not in seen
    assert sql.READING not in seen  # nor is it tried at each recall
    assert await residents(driver) == 0
    await execute(url, "update memories set content = 'pot'")
    assert await contents(driver, "ada") == {"pot"}


async def test_a_table_that_a_subscription_fills_tells_no_changes(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await opened(open_driver, embedder, url, 1)
    await store(driver, "ada", "kettle")
    connection = await asyncpg.connect(url)
    await connection.execute(
        "create subscription away connection 'host=127.0.0.1 port=1' publication p "
        "with (connect = false, enabled = false, slot_name = none)"
    )
    await connection.execute(
        "insert into pg_subscription_rel (srsubid, srrelid, srsubstate) "
        "select oid, 'memories'::regclass, 'r' from pg_subscription where subname = 'away'"
    )
    assert sql.CHANGED not in await settled(driver, "ada")
    await connection.execute("drop subscription away")
    await connection.close()
