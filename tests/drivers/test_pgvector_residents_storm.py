"""Writers of every kind, and two services that recall meanwhile: no recall is wrong."""

import asyncio
import random
from contextlib import suppress
from uuid import UUID

import asyncpg
import pytest
from asyncpg import exceptions as pg

from app.drivers.pgvector import PgvectorDriver
from app.drivers.pgvector.changes import OldChanges
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder
from app.tasks import end
from tests.conftest import NewDatabase
from tests.drivers.conftest import OpenDriver
from tests.drivers.resident import Chance, residents, store
from tests.storm import times

RECALLS = times(4_000, 40_000)
TRANSACTIONS = times(500, 5_000)
WRITERS = 6
USERS = [f"user {n}" for n in range(4)]
OFTEN = [50, 10, 2, 1]
"""How often each is recalled: of some, changes are forgotten before."""
IDS = [UUID(int=n) for n in range(1, 61)]
OTHERS = sql.EVERY_COLUMN.replace("memory_id, user_id, conversation_id, content, ", "")
TABLE = "select memory_id, content from memories where user_id = $1"
INSERT = f"""
    insert into memories (memory_id, user_id, conversation_id, content, {OTHERS})
    select id, $1, conversation_id, $3 || ' ' || id, {OTHERS}
    from seeds, unnest($2::uuid[]) as id
"""  # noqa: S608
UPDATE = (
    "update memories set content = $3 || ' ' || memory_id "
    "where user_id = $1 and memory_id = any($2::uuid[])"
)
UPSERT = f"{INSERT} on conflict (user_id, memory_id) do update set content = excluded.content"
NEW_ONLY = f"{INSERT} on conflict (user_id, memory_id) do nothing"
DELETE = "delete from memories where user_id = $1 and memory_id = any($2::uuid[])"
MOVE = (
    "update memories set user_id = $1, content = $3 || ' ' || memory_id "
    "where user_id <> $1 and memory_id = any($2::uuid[])"
)

Rows = dict[UUID, str]


class Writer:
    """Changes a few ids of the users, over and over; no content comes twice."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self._number = number
        self._random = random.Random(number)
        self.transactions = 0

    async def run(self) -> None:
        connection = await asyncpg.connect(self._url)
        await connection.execute("set deadlock_timeout = '20ms'")
        while True:
            with suppress(pg.UniqueViolationError, pg.DeadlockDetectedError):
                await self._transaction(connection)

    async def _transaction(self, connection: asyncpg.Connection) -> None:
        self.transactions += 1
        chance = self._random.random()
        if chance < 0.002:
            await connection.execute("truncate memories")
        elif chance < 0.3:
            await self._change(connection)
        else:
            whole = connection.transaction()
            await whole.start()
            try:
                await self._changes(connection)
            except BaseException:
                await whole.rollback()
                raise
            await (whole.rollback() if chance < 0.45 else whole.commit())

    async def _changes(self, connection: asyncpg.Connection) -> None:
        for _ in range(self._random.randint(1, 4)):
            part = connection.transaction()  # a savepoint
            await part.start()
            try:
                await self._change(connection)
            except pg.UniqueViolationError:
                await part.rollback()
                continue
            await (part.rollback() if self._random.random() < 0.3 else part.commit())
        if self._random.random() < 0.1:
            await asyncio.sleep(0.3)

    async def _change(self, connection: asyncpg.Connection) -> None:
        user, ids = self._random.choice(USERS), sorted(self._random.sample(IDS, 3))
        said = f"{self._number}.{self.transactions}.{self._random.random()}"
        kind = self._random.random()
        if kind < 0.04:
            await connection.execute("delete from memories where user_id = $1", user)
        elif kind < 0.2:
            await connection.execute(DELETE, user, ids)
        elif kind < 0.4:
            await connection.execute(DELETE, user, ids)
            await connection.execute(INSERT, user, ids, said)
        else:
            statement = self._random.choice([UPDATE, UPSERT, NEW_ONLY, MOVE])
            await connection.execute(statement, user, ids, said)


class Reader:
    """Compares each recall with what was there just before it and just after it."""

    def __init__(self, url: str, driver: PgvectorDriver, seen: dict[str, set[str]]) -> None:
        self._url = url
        self._driver = driver
        self._seen = seen
        """What any reader has found in the table, by user."""
        self.recalls = 0

    async def run(self) -> None:
        connection = await asyncpg.connect(self._url)
        while True:
            [user] = random.choices(USERS, OFTEN)
            known = frozenset(self._seen[user])
            before = await self._table(connection, user)
            found = await self._driver.recall(user, query="kettle", top_k=100)
            after = await self._table(connection, user)
            recalled = {UUID(memory.memory_id): memory.content for memory in found}
            self.check(known, before, recalled, after)
            self.recalls += 1

    async def _table(self, connection: asyncpg.Connection, user: str) -> Rows:
        rows = await connection.fetch(TABLE, user)
        self._seen[user].update(row["content"] for row in rows)
        return {row["memory_id"]: row["content"] for row in rows}

    @staticmethod
    def check(known: frozenset[str], before: Rows, recalled: Rows, after: Rows) -> None:
        untouched = dict(before.items() & after.items())
        missed = untouched.items() - recalled.items()
        assert not missed, f"not recalled, though committed before: {missed}"
        gone = {said for said in recalled.values() if said in known} - {*before.values()}
        assert not gone, f"recalled, though gone before: {gone}"


async def forgetting(driver: PgvectorDriver) -> None:
    """Forget changes as soon as they are marked: far sooner than any service does."""
    while True:
        await OldChanges(driver.connections).forget(0)
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("forgets", [False, True])
async def test_no_recall_misses_what_was_committed_before_it(
    new_database: NewDatabase, open_driver: OpenDriver, embedder: Embedder, *, forgets: bool
) -> None:
    url = await new_database()
    quick = Chance(embedder.dimension)
    drivers = [await open_driver(url, instead=quick) for _ in range(2)]
    await store(drivers[0], USERS[0], "seed")
    connection = await asyncpg.connect(url)
    await connection.execute("create table seeds as select * from memories")
    seen: dict[str, set[str]] = {user: set() for user in USERS}
    writers = [Writer(url, n) for n in range(WRITERS)]
    readers = [Reader(url, driver, seen) for driver in drivers for _ in range(3)]
    tasks = [asyncio.create_task(writer.run()) for writer in writers]
    tasks += [asyncio.create_task(reader.run()) for reader in readers]
    if forgets:
        tasks.append(asyncio.create_task(forgetting(drivers[0])))
    try:
        while sum(each.recalls for each in readers) < RECALLS or (
            sum(each.transactions for each in writers) < TRANSACTIONS
        ):
            ended, _ = await asyncio.wait(tasks, timeout=0.2, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        kept = [await residents(driver) for driver in drivers]
    finally:
        await end(*tasks)
    for driver in drivers:
        for user in USERS:
            found = await driver.recall(user, query="kettle", top_k=100)
            rows = await connection.fetch(TABLE, user)
            assert {UUID(memory.memory_id): memory.content for memory in found} == {
                row["memory_id"]: row["content"] for row in rows
            }
    await connection.close()
    assert forgets or min(kept) > 0
