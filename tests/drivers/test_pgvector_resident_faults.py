"""Users who are kept, when PostgreSQL forgets, is restarted, crashes, or keeps somebody waiting."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import asyncpg
import pytest

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.changes import OldChanges
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.errors import DriverTimeout
from app.settings import RecallSettings
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import (
    WINDOW,
    Chance,
    become_resident,
    contents,
    execute,
    residents,
    statements,
    store,
)
from tests.faults.server import Server

CHANGE = "update memories set content = 'pot'"
TOLD = "select count(*) from memory_changes where user_id <> ''"
CHECKPOINTER = "select pid from pg_stat_activity where backend_type = 'checkpointer'"
LONG = WINDOW.join(f"window {n}" for n in range(3))


@pytest.fixture
async def url(new_database: NewDatabase) -> str:
    return await new_database()


@pytest.fixture
async def driver(url: str, open_driver: OpenDriver, embedder: Embedder) -> PgvectorDriver:
    """Ada is resident, with one memory."""
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await store(driver, "ada", "kettle")
    await become_resident(driver, "ada")
    return driver


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.open()
    yield server
    await server.close()


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def read_anew(driver: PgvectorDriver) -> bool:
    """Whether the next recall of Ada asks PostgreSQL for all of her memories."""
    async with statements(driver) as seen:
        await driver.recall("ada", query="kettle")
    return sql.WHOLE[0].outlines in seen


async def answers(driver: PgvectorDriver) -> None:
    """Wait until it does again."""
    async with asyncio.timeout(20):
        while (await driver.health_check()).status != "ok":
            await asyncio.sleep(0.05)


async def test_old_changes_are_forgotten_and_users_who_saw_them_stay(
    url: str, driver: PgvectorDriver
) -> None:
    changes = OldChanges(driver.connections)
    await execute(url, CHANGE)
    assert await contents(driver, "ada") == {"pot"}
    assert await value(url, TOLD) == 2
    await changes.forget(3_600)
    assert await value(url, TOLD) == 2
    await driver.recall("ada", query="kettle")
    await changes.forget(0)
    assert await value(url, TOLD) == 0
    assert not await read_anew(driver)


async def test_who_did_not_see_what_was_forgotten_is_read_anew(
    url: str, driver: PgvectorDriver
) -> None:
    """However it came to that: also a service whose machine slept has not waited by its clock."""
    changes = OldChanges(driver.connections)
    await execute(url, CHANGE)
    for _ in range(2):
        await changes.forget(0)
    assert await value(url, TOLD) == 0
    assert await read_anew(driver)
    assert await contents(driver, "ada") == {"pot"}


async def test_a_change_of_a_transaction_that_outlasts_a_mark_is_kept(
    url: str, driver: PgvectorDriver
) -> None:
    changes = OldChanges(driver.connections)
    writer = await asyncpg.connect(url)
    long = writer.transaction()
    await long.start()
    await writer.execute(CHANGE)
    for _ in range(3):
        await changes.forget(0)
    assert await contents(driver, "ada") == {"kettle"}
    await long.commit()
    await writer.close()
    await changes.forget(0)
    assert await value(url, TOLD) == 1
    assert not await read_anew(driver)
    assert await contents(driver, "ada") == {"pot"}


async def test_marks_of_another_cluster_make_no_change_forgotten(
    url: str, driver: PgvectorDriver
) -> None:
    await execute(
        url,
        "insert into memory_changes (user_id, written, marked_at) "
        "select '', n::text::xid8, now() - interval '1 day' from generate_series(1e9, 1e9 + 3) n",
        CHANGE,
    )
    await OldChanges(driver.connections).forget()
    assert await value(url, "select count(*) from memory_changes where written > '999999999'") == 0
    assert not await read_anew(driver)
    assert await contents(driver, "ada") == {"pot"}


async def test_a_log_that_somebody_emptied_vouches_for_nobody(
    url: str, driver: PgvectorDriver
) -> None:
    await execute(url, CHANGE, "truncate memory_changes")
    assert await contents(driver, "ada") == {"pot"}
    await OldChanges(driver.connections).forget()
    async with asyncio.timeout(10):
        while await read_anew(driver):
            await asyncio.sleep(0.01)
    assert await contents(driver, "ada") == {"pot"}


async def test_after_a_restart_everybody_is_read_anew(
    server: Server, open_driver: OpenDriver, embedder: Embedder
) -> None:
    url = await server.database(embedder.dimension)
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await store(driver, "ada", "kettle")
    await become_resident(driver, "ada")
    server.kill(away=True)
    async with asyncio.timeout(20):
        while (await driver.health_check()).status == "ok":
            await asyncio.sleep(0.05)
    server.back()
    await answers(driver)
    assert await read_anew(driver)
    assert await contents(driver, "ada") == {"kettle"}


async def test_after_a_crash_of_one_process_everybody_is_read_anew(
    server: Server, open_driver: OpenDriver, embedder: Embedder
) -> None:
    """Numbers of transactions that had left no trace on the disk are given again after one."""
    url = await server.database(embedder.dimension)
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await store(driver, "ada", "kettle")
    await become_resident(driver, "ada")
    started = await value(url, "select pg_postmaster_start_time()")
    checkpointer = await value(url, CHECKPOINTER)
    victim = await asyncpg.connect(url)
    os.kill(victim.get_server_pid(), signal.SIGKILL)
    async with asyncio.timeout(20):
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                if await value(url, CHECKPOINTER) not in (None, checkpointer):
                    break
            await asyncio.sleep(0.05)
    await answers(driver)
    assert await value(url, "select pg_postmaster_start_time()") == started
    assert await read_anew(driver)
    victim.terminate()


async def test_a_prepared_transaction_is_known_once_it_is_committed(
    server: Server, open_driver: OpenDriver, embedder: Embedder
) -> None:
    await execute(server.admin_dsn, "alter system set max_prepared_transactions = 2")
    await server.close()
    await server.open()
    url = await server.database(embedder.dimension)
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    await store(driver, "ada", "kettle")
    await become_resident(driver, "ada")
    await execute(url, "begin", CHANGE, "prepare transaction 'later'")
    assert await contents(driver, "ada") == {"kettle"}
    await store(driver, "ada", "spoon")
    assert await contents(driver, "ada") == {"kettle", "spoon"}
    await execute(url, "commit prepared 'later'")
    assert await contents(driver, "ada") == {"pot", "spoon"}


async def held_up(url: str) -> asyncpg.Connection:
    """A client that keeps the windows of long texts locked until it is closed."""
    client = await asyncpg.connect(url)
    await client.execute("begin")
    await client.execute("lock table memory_windows in access exclusive mode")
    return client


async def test_recalls_that_wait_for_a_user_take_no_connection_from_others(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=2)
    await store(driver, "ada", LONG)
    await store(driver, "bob", "bob's")
    await become_resident(driver, "ada", "bob")
    await store(driver, "ada", LONG + WINDOW)
    client = await held_up(url)
    waiting = [asyncio.create_task(driver.recall("ada", query="kettle")) for _ in range(10)]
    await asyncio.sleep(0.3)
    async with asyncio.timeout(2):
        assert await contents(driver, "bob") == {"bob's"}
    await client.close()
    assert {len(found) for found in await asyncio.gather(*waiting)} == {2}


async def test_a_recall_that_is_cancelled_amid_a_change_leaves_the_user_right(
    url: str, driver: PgvectorDriver
) -> None:
    await store(driver, "ada", LONG)
    client = await held_up(url)
    waiting = asyncio.create_task(driver.recall("ada", query="kettle"))
    await asyncio.sleep(0.2)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await client.close()
    assert await contents(driver, "ada") == {"kettle", LONG}
    assert await residents(driver) == 1


async def test_a_recall_that_fails_amid_a_change_leaves_the_user_right(
    url: str, open_driver: OpenDriver, embedder: Embedder
) -> None:
    driver = await open_driver(
        url, instead=Chance(embedder.dimension), pool_max_size=1, timeout=0.5
    )
    await store(driver, "ada", "kettle")
    await become_resident(driver, "ada")
    await store(driver, "ada", LONG)
    client = await held_up(url)
    with pytest.raises(DriverTimeout):
        await driver.recall("ada", query="kettle")
    await client.close()
    assert await contents(driver, "ada") == {"kettle", LONG}


@pytest.mark.parametrize("changed_first", [False, True])
async def test_a_long_text_that_a_client_changed_is_compared_by_what_it_has_left(
    url: str, open_driver: OpenDriver, embedder: Embedder, *, changed_first: bool
) -> None:
    driver = await open_driver(url, instead=Chance(embedder.dimension), pool_max_size=1)
    none = await open_driver(
        url, instead=Chance(embedder.dimension), recall=RecallSettings(resident_mb=0)
    )
    await store(driver, "ada", "kettle", LONG, "pot", LONG.replace("window", "other"))
    if not changed_first:
        await become_resident(driver, "ada")
    await execute(url, f"update memories set content = 'cut' where content = '{LONG}'")  # noqa: S608
    if changed_first:
        await become_resident(driver, "ada")
    for query in ("window 1", "other 2", "kettle"):
        assert await driver.recall("ada", query=query) == await none.recall("ada", query=query)
