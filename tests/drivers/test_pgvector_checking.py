"""Recalls at the same time ask together whether their users changed."""

import asyncio

import pytest

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.checking import Checking
from app.errors import DriverUnavailable
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver


@pytest.fixture
async def driver(new_database: NewDatabase, open_driver: OpenDriver) -> PgvectorDriver:
    """With a user who has stored a memory."""
    driver = await open_driver(await new_database())
    await driver.store("ada", "The kettle is copper.")
    return driver


@pytest.fixture
def checking(driver: PgvectorDriver) -> Checking:
    return Checking(driver.connections)


async def snapshot(driver: PgvectorDriver) -> str:
    async with driver.connections.acquire() as connection:
        return str(await connection.fetchval("select pg_current_snapshot()::text"))


async def test_everybody_gets_the_answer_for_their_own_user_and_snapshot(
    driver: PgvectorDriver, checking: Checking
) -> None:
    before = await snapshot(driver)
    await driver.store("bob", "The pan is steel.")
    after = await snapshot(driver)
    asked = [(user, seen) for user in ("ada", "bob", "nobody") for seen in (before, after)]
    rows = await asyncio.gather(*(checking.ask(*one) for one in asked * 20))
    assert [row["changed"] for row in rows] == [one == ("bob", before) for one in asked] * 20
    assert all(row["told"] for row in rows)
    await checking.stop()


async def test_who_asks_while_a_statement_runs_is_not_answered_by_that_one(
    driver: PgvectorDriver, checking: Checking
) -> None:
    before = await snapshot(driver)
    first = asyncio.create_task(checking.ask("ada", before))
    await asyncio.sleep(0)
    await driver.store("ada", "The pan is steel.")
    assert (await checking.ask("ada", before))["changed"]
    await first
    await checking.stop()


async def test_who_leaves_takes_no_answer_from_the_others(
    driver: PgvectorDriver, checking: Checking
) -> None:
    seen = await snapshot(driver)
    asking = [asyncio.create_task(checking.ask("ada", seen)) for _ in range(10)]
    await asyncio.sleep(0)
    for each in asking[::2]:
        each.cancel()
    rows = await asyncio.gather(*asking[1::2])
    assert [row["changed"] for row in rows] == [False] * 5
    assert all(each.cancelled() for each in asking[::2])
    await checking.stop()


async def test_a_failure_is_told_to_all_who_asked_and_to_nobody_after_them(
    driver: PgvectorDriver, checking: Checking
) -> None:
    seen = await snapshot(driver)
    asking = [checking.ask("ada", "no snapshot"), checking.ask("ada", seen)]
    failed = await asyncio.gather(*asking, return_exceptions=True)
    assert all(isinstance(each, Exception) for each in failed)
    assert not (await checking.ask("ada", seen))["changed"]
    await checking.stop()


async def test_the_end_leaves_nobody_waiting(driver: PgvectorDriver, checking: Checking) -> None:
    asking = asyncio.create_task(checking.ask("ada", await snapshot(driver)))
    await asyncio.sleep(0)
    await checking.stop()
    with pytest.raises(DriverUnavailable):
        await asking
