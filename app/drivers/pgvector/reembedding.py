"""Another model for the records of a database: its vectors are made in a schema beside the first.

The schema has the same tables, made by the same migrations; `sql/reembedding.py` has what keeps
them equal, and `switching.py` the exchange.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Final, TypeVar
from urllib.parse import quote, urlsplit
from uuid import UUID

from asyncpg import exceptions as pg
from pgvector.asyncpg import register_vector
from pydantic import SecretStr

from app.core.memory.cursor import Cursor
from app.core.memory.records import Knowledge, Memory, Record, record_id
from app.core.memory.reembedding import Count, Reembedding, State
from app.drivers.pgvector import indexes, migrations, switching
from app.drivers.pgvector.access import reached
from app.drivers.pgvector.connecting import connect
from app.drivers.pgvector.connections import SESSION, Connections
from app.drivers.pgvector.errors import backend_errors
from app.drivers.pgvector.generations import Generations, is_same, vector_of
from app.drivers.pgvector.knowledge import KnowledgeTable
from app.drivers.pgvector.rows import knowledge_of, memory_of
from app.drivers.pgvector.sql import memories as memories_sql
from app.drivers.pgvector.sql import reembedding as sql
from app.drivers.pgvector.sql.reembedding import Places
from app.drivers.pgvector.turns import Turns
from app.drivers.pgvector.writing import Writing
from app.embedding import SAMPLE, Embedder
from app.errors import CapabilityMissing, ConfigurationError, DriverUnavailable, InUse
from app.settings import DatabaseSettings, RecallSettings

PAGE: Final = 200
"""Records that are read, embedded and written at once."""
SEEN_SECONDS: Final = 10.0
"""A service that has not been seen for so long is not waited for."""
LOOKS_SECONDS: Final = 5.0
"""So long every service has to see that another model is to come."""
_TRIES: Final = 150
"""How often a lock is asked for, each time for less than a second."""

_LOCK = "select pg_try_advisory_lock(hashtextextended($1, 0))"
_LOCK_MILLISECONDS = 800
"""Below PostgreSQL's deadlock_timeout: so whoever is given up is never a service's transaction."""
_RETRY_SECONDS = 0.3

T = TypeVar("T")


class PgvectorReembedding(Reembedding):
    """The tables once more in the schema `<schema>_reembedding`, with their own indexes.

    It has connections of its own, which must not go through a pooler of transactions: a lock and
    the schema that they look in are their sessions'.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        embedder: Embedder,
        recall: RecallSettings,
        now: Callable[[], datetime],
    ) -> None:
        """`now` is the driver's clock."""
        self._settings = settings
        self._embedder = embedder
        self._recall = recall
        self._now = now
        self._stack = AsyncExitStack()
        self._second: tuple[Writing, KnowledgeTable] | None = None
        self._tidied = False

    async def open(self) -> None:
        self._dsn = await self._stack.enter_async_context(reached(self._settings))
        self._connection = await connect(self._settings, self._dsn)
        self._stack.push_async_callback(self._disconnect)
        with backend_errors():
            connection = self._connection
            schema = await connection.fetchval(sql.SCHEMA)
            if schema is None or not await connection.fetchval(memories_sql.REVISION_TABLE):
                raise ConfigurationError(f"the schema is not there: run {self._settings.upgrade}")
            self._places = Places.of(schema)
            for _ in range(10):
                if await connection.fetchval(_LOCK, f"reembedding\n{schema}"):
                    break
                await asyncio.sleep(_RETRY_SECONDS)  # one that was killed just now may hold it
            else:
                raise InUse("another process brings the records to another model")
            if await connection.fetchval(memories_sql.REVISION) != migrations.head():
                raise ConfigurationError(
                    f"the schema is not of this version: run {self._settings.upgrade}"
                )
            for row in await connection.fetch(sql.UNFIT, schema):
                raise CapabilityMissing(
                    f"The table {row['relname']} {row['why']}: copy the records into another "
                    "database by `memory-driver copy`"
                )
            where = str(await connection.fetchval(memories_sql.EXTENSION_SCHEMA))
            await register_vector(connection, schema=where)
            await connection.execute(f"{SESSION}; set statement_timeout = 0")

    async def close(self) -> None:
        await self._stack.aclose()

    async def _disconnect(self) -> None:
        self._connection.terminate()

    async def state(self) -> State:
        with backend_errors():
            if await sql.second_of(self._connection) is not None:
                return "filling"
            replaced = await self._connection.fetchval(sql.IS_SCHEMA, self._places.replaced)
            return "switched" if replaced else "none"

    async def begin(self) -> None:
        await self._embedder.open()
        with backend_errors():
            state = await self.state()
            ours = (await self._embedder.embed([SAMPLE]))[0]
            if state == "filling":
                coming = await sql.next_model(self._connection)
                if coming is None or not is_same(vector_of(coming["sample"]), ours):
                    name = None if coming is None else coming["name"]
                    raise ConfigurationError(
                        f"the records are being brought to the model {name!r}: go on with that "
                        "one, or call it off first"
                    )
                return
            row = await self._connection.fetchrow(memories_sql.MODEL)
            if row is None or row["name"] is None:
                raise ConfigurationError("the database has no model yet: start the service once")
            same = is_same(vector_of(row["sample"]), ours)
            if state == "switched":
                if not same:
                    raise ConfigurationError(
                        f"the records were brought to the model {row['name']!r}, and the old "
                        "vectors are still there: run the command again with that one"
                    )
                return
            if same:
                raise ConfigurationError(
                    f"the records have the vectors of the model {row['name']!r} already"
                )
            await self._make()

    async def _make(self) -> None:
        second = self._places.second
        await self._retried(self._drop_second)  # what one that was killed has left
        await self._connection.execute(
            f"create schema {second};"
            f"create table {second}.alembic_version (version_num varchar(32)"
            " constraint alembic_version_pkc primary key)"
        )
        try:
            await migrations.upgrade(await self._second_dsn(), self._embedder.dimension)
        except migrations.MigrationFailed as error:
            raise DriverUnavailable(reason=f"the second place can't be made: {error}") from error

        sample = (await self._embedder.embed([SAMPLE]))[0]
        records = await self._connection.fetchval(sql.count(self._places.first))

        async def fill_in() -> None:
            connection = self._connection
            async with connection.transaction():
                await connection.execute(f"set local lock_timeout = {_LOCK_MILLISECONDS}")
                model = (self._embedder.name, self._embedder.dimension, sample)
                await connection.execute(sql.remember_model(self._places), *model)
                await connection.execute(sql.begin(self._places))
                await switching.let_services_look(connection, self._places)
                await connection.execute(sql.first_progress(self._places), records)

        await self._retried(fill_in)

    async def count(self) -> Count:
        places = self._places
        with backend_errors():
            records = await self._connection.fetchval(sql.count(places.first))
            done = await self._connection.fetchval(sql.count(places.second))
            await self._connection.execute(sql.progress(places), records, done)
        return Count(records, done)

    async def missing(self) -> AsyncIterator[Sequence[Record]]:
        with backend_errors():
            async for batch in self._missing():
                yield batch

    async def _missing(self) -> AsyncIterator[Sequence[Record]]:
        """All of it once, in the order of the keys; after that what was noted meanwhile."""
        connection, places = self._connection, self._places
        if not await connection.fetchval(sql.all_seen(places)):
            statement, last = sql.missing_memories(places), ("", UUID(int=0))
            while rows := await connection.fetch(statement, *last, PAGE):
                keys = [(row["user_id"], row["memory_id"]) for row in rows]
                last = keys[-1]
                yield [memory_of(row) for row in rows]
                await connection.execute(sql.note_memories(places), *zip(*keys, strict=True))
            statement, one = sql.missing_knowledge(places), UUID(int=0)
            while rows := await connection.fetch(statement, one, PAGE):
                ids = [row["knowledge_id"] for row in rows]
                one = ids[-1]
                yield [knowledge_of(row) for row in rows]
                await connection.execute(sql.note_knowledge(places), ids)
            await connection.execute(sql.see_all(places))
        async for batch in self._left():
            yield batch

    async def _left(self, most: int = PAGE) -> AsyncIterator[Sequence[Record]]:
        """What was noted, in one pass."""
        connection, places, last = self._connection, self._places, 0
        while noted := await connection.fetch(sql.left(places), last, most):
            last = noted[-1]["n"]
            memories = [(row["user_id"], row["id"]) for row in noted if row["user_id"] is not None]
            ids = [row["id"] for row in noted if row["user_id"] is None]
            records: list[Record] = []
            if memories:
                pairs = zip(*memories, strict=True)
                rows = await connection.fetch(sql.left_memories(places), *pairs)
                records += [memory_of(row) for row in rows]
            if ids:
                rows = await connection.fetch(sql.left_knowledge(places), ids)
                records += [knowledge_of(row) for row in rows]
            if records:
                yield records
            await connection.execute(sql.settle(places), [row["n"] for row in noted])

    async def keep(self, records: Sequence[Record]) -> None:
        writing, table = await self._opened_second()
        memories = [record for record in records if isinstance(record, Memory)]
        knowledge = [record for record in records if isinstance(record, Knowledge)]
        if memories:
            await writing.merge(sorted(memories, key=Cursor.after), {})
        if knowledge:
            await table.merge(sorted(knowledge, key=record_id), {})
        with backend_errors():
            await self._connection.execute(sql.more_done(self._places), len(records))

    async def hindrance(self) -> str | None:
        with backend_errors():
            row = await self._connection.fetchrow(sql.problems(self._places), SEEN_SECONDS)
        if row is None or row["seconds"] < LOOKS_SECONDS:
            return "services look whether another model is to come"
        if row["problems"]:
            return f"a service is not ready: {row['problems'][0]}"
        return None

    async def switch(self) -> bool:
        with backend_errors():
            await self._tidy()
            return await switching.switch(self._connection, self._places, self._fill)

    async def _fill(self, most: int) -> bool:
        """Fill in what was noted, if that is no more than `most`; whether nothing is left then."""
        left = sql.left(self._places)
        if not await self._connection.fetchval(sql.all_seen(self._places)):
            return False
        if len(await self._connection.fetch(left, 0, most + 1)) > most:
            return False
        async for batch in self._left():
            await self.keep(batch)
        return not await self._connection.fetch(left, 0, 1)

    async def _tidy(self) -> None:
        """Give the second place what a database in use has: a fit index, statistics, a vacuum."""
        if self._tidied:
            return
        dsn, kind = await self._second_dsn(), self._settings.index
        connection = await connect(self._settings, dsn)
        try:
            await connection.execute("vacuum (analyze) memories, global_knowledge")
            if (await indexes.inspect(connection, kind, count=True)).stale:
                await indexes.rebuild(dsn, kind)
        finally:
            connection.terminate()
        self._tidied = True

    async def end(self) -> None:
        with backend_errors():
            state = await self.state()
            if state == "switched":
                await self._retried(self._drop_replaced)
            else:
                await self._retried(self._drop_second)

    async def _drop_second(self) -> None:
        async with self._connection.transaction():
            await self._connection.execute(f"set local lock_timeout = {_LOCK_MILLISECONDS}")
            await self._connection.execute(f"drop schema if exists {self._places.second} cascade")

    async def _drop_replaced(self) -> None:
        try:
            async with self._connection.transaction():
                await self._connection.execute(f"set local lock_timeout = {_LOCK_MILLISECONDS}")
                await switching.drop_replaced(self._connection, self._places)
        except pg.DependentObjectsStillExistError as error:
            raise ConfigurationError(
                f"the old tables in {self._places.replaced} are in use ({error.detail}): drop that "
                "first, and run the command again"
            ) from error

    async def _retried(self, work: Callable[[], Awaitable[T]]) -> T:
        """What the work gives once its locks are free; others wait for less than a second."""
        for _ in range(_TRIES - 1):
            try:
                return await work()
            except (pg.LockNotAvailableError, pg.DeadlockDetectedError):
                await asyncio.sleep(_RETRY_SECONDS)
        return await work()

    async def _second_dsn(self) -> str:
        """The way to the second place: its tables are found first, and those of the first never."""
        path = await self._connection.fetchval("select current_setting('search_path')")
        joined = "&" if urlsplit(self._dsn).query else "?"
        return f"{self._dsn}{joined}search_path={quote(f'{self._places.second}, {path}')}"

    async def _opened_second(self) -> tuple[Writing, KnowledgeTable]:
        if self._second is None:
            changed = {
                "url": SecretStr(await self._second_dsn()),
                "migrate": False,
                "expect_records": False,
            }
            settings = self._settings.model_copy(update=changed)
            generations = Generations(self._embedder)
            connections = Connections(settings, generations, self._recall.language)
            self._stack.push_async_callback(connections.close)
            await connections.open()
            turns = Turns(self._connection.fetch, self._now) if self._recall.context else None
            self._second = (
                Writing(connections, generations.now, turns, self._now),
                KnowledgeTable(connections, generations.now, self._now),
            )
        return self._second
