"""Which users a tenant sees, and which whoever has none: each its own, under their own ids."""

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import UserCount
from app.drivers.inmemory import InMemoryDriver
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings
from app.wrappers.scoped import ScopedDriver
from app.wrappers.unscoped import UnscopedDriver
from tests.conftest import NewDatabase
from tests.wrappers.test_scoped import HOSTILE, LIMITS, TENANTS

AROUND = ("\x01", "\x1e", "\x1e\U0010ffff", " ", " a", "ada", "\U0010ffff")
"""Ids before and after those that tenants' users have inside."""


async def listed(driver: RecordDriver, limit: int) -> list[UserCount]:
    users: list[UserCount] = []
    page = await driver.list_users(limit=limit)
    while True:
        assert len(page.users) <= limit
        users += page.users
        if page.next_cursor is None:
            return users
        page = await driver.list_users(page.next_cursor, limit)


@pytest.fixture(params=["inmemory", "pgvector"])
async def inner(
    request: pytest.FixtureRequest,
    embedder: Embedder,
    new_database: NewDatabase,
) -> AsyncIterator[RecordDriver]:
    if request.param == "inmemory":
        yield InMemoryDriver(embedder, LIMITS.widened())
        return
    database = DatabaseSettings(url=SecretStr(await new_database()))
    async with PgvectorDriver(database, embedder, LIMITS.widened()) as driver:
        yield driver


async def test_each_sees_its_own_users_alone(inner: RecordDriver) -> None:
    parts: list[tuple[RecordDriver, tuple[str, ...]]] = [
        (ScopedDriver(inner, tenant, LIMITS), HOSTILE) for tenant in TENANTS
    ]
    parts.append((UnscopedDriver(inner, LIMITS), AROUND))
    for driver, users in parts:
        for user_id in users:
            await driver.store(user_id, "kettle")
        await driver.store_global_knowledge("kettle", "kitchen")
    for driver, users in parts:
        for limit in (1, 2, len(users), 100):
            assert await listed(driver, limit) == [UserCount(each, 1) for each in sorted(users)]
    for n, (driver, users) in enumerate(parts):
        for user_id in users:
            assert await driver.delete_user(user_id) == 1
        assert await listed(driver, 2) == []
        for other, theirs in parts[n + 1 :]:
            assert len(await listed(other, 100)) == len(theirs)


async def test_a_cursor_leads_nobody_to_anothers_users(inner: RecordDriver) -> None:
    acme, unscoped = ScopedDriver(inner, "acme", LIMITS), UnscopedDriver(inner, LIMITS)
    for driver in (acme, unscoped):
        for user_id in ("ada", "bob"):
            await driver.store(user_id, "kettle")
    inside = (await inner.list_users(limit=1)).next_cursor
    assert (await unscoped.list_users(inside)).users == [UserCount("ada", 1), UserCount("bob", 1)]
    assert (await acme.list_users(inside)).users == [UserCount("ada", 1), UserCount("bob", 1)]
    own = (await acme.list_users(limit=1)).next_cursor
    assert (await unscoped.list_users(own)).users == [UserCount("bob", 1)]
