"""The way to PostgreSQL: opened once, checked before anything is stored, found again when lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from time import monotonic
from typing import Any

import asyncpg
from asyncpg import exceptions as pg
from pgvector.asyncpg import register_vector

from app import cluster
from app.drivers.pgvector.checks import Checks, Connection, Pooled
from app.drivers.pgvector.connecting import CONNECT_SECONDS, connect
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.drivers.pgvector.errors import backend_errors, describe
from app.drivers.pgvector.expected import ExpectedRecords
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.generations import Generations
from app.errors import (
    ConfigurationError,
    ConnectionLost,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    ModelChanged,
    NotPermitted,
    PoolExhausted,
)
from app.logs import get_logger
from app.machine import cores
from app.reachability import Reachability
from app.settings import DatabaseSettings
from app.tasks import end

SESSION = """
    set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off;
    set jit = off;
    set max_parallel_workers_per_gather = 0
"""
"""For every connection of the pool. Each statement has the plan that its test guards, made once:
also while a table is so small that PostgreSQL would rather read all of it. To
compile statements as short as these, or to share them among processes, costs more than it saves."""

_POOL_MAX_SIZE = 10
POOL_MIN_SIZE = 1
"""Connections that are kept open, so that the first request after a rest need not connect."""
POOL_SECONDS = 5.0
"""How long a request waits for a free connection, then 503: more would only make it late."""
_RELEASE_SECONDS = 1.0
_RENEWAL_SECONDS = 1.0

_log = get_logger(__name__)


class Connections:
    """A pool that opens itself again after PostgreSQL was away.

    However many callers find it closed, one attempt to open it runs at a time, for all of them.
    A database that is not as it was when it was opened (restored, made anew) is opened anew, with
    every check: types, plans and the answers of those checks belong to what was opened.
    """

    def __init__(self, settings: DatabaseSettings, generations: Generations, language: str) -> None:
        self.database: frozenset[str] | None = None
        """Which one it is, by whatever way it is reached: None before it was, empty if untold."""
        self._settings = settings
        self.generations = generations
        """Of the vectors: the one that the database has, as far as is known."""
        self._checks = Checks(settings, generations, language)
        self._records = ExpectedRecords(settings)
        self._server = (
            EmbeddedPostgres(settings.data_dir, settings.called("data_dir"))
            if settings.url is None
            else None
        )
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._opening: asyncio.Task[asyncpg.Pool[asyncpg.Record]] | None = None
        self._reachability = Reachability("postgresql", settings.called("url"))
        """Only told: each call tries, and opens it anew."""
        self._closed = False
        self._served = False
        """Whether it was open: what is wrong with the database later is an outage."""
        self._leaving: set[asyncio.Task[None]] = set()
        """The ends of pools that were given up."""
        self._refused: str | None = None
        self._answered = -inf
        """When a statement last succeeded, by the monotonic clock."""
        self._renewed = -inf
        """When the connections last had to be made anew, by the same."""

    async def open(self) -> None:
        """Start, migrate, check and connect, as the settings say; twice is harmless.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        self._closed = False
        await self._opened()

    async def close(self) -> None:
        """Give running statements a moment, then disconnect."""
        self._closed = True
        await end(self._opening, *self._leaving)
        pool, self._pool, self._opening = self._pool, None, None
        self.database = None
        if pool is not None:
            try:
                async with asyncio.timeout(POOL_SECONDS):
                    await pool.close()
            except TimeoutError:
                pool.terminate()
        if self._server is not None:
            await self._server.close()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Pooled]:
        """A connection for one verb; every failure inside leaves as a `MemoryServiceError`."""
        sent = False
        pool = None
        started = monotonic()
        try:
            pool = self._pool or await self._opened_in_time()
            with backend_errors():
                connection = await self._take(pool)
                sent = True
                try:
                    with backend_errors():
                        yield connection
                except NotPermitted:
                    await self._renew(pool)
                    raise
                except DriverError as error:
                    if type(error) is DriverError:
                        await self._confirm(connection, error.__cause__)
                    raise
                finally:
                    await _release(pool, connection)
        except (PoolExhausted, NotPermitted, ModelChanged):
            raise
        except DriverUnavailable as error:
            if isinstance(error, DatabaseChanged):
                self._give_up(pool)
            self._reachability.failed(error.reason, started)
            if sent:
                raise ConnectionLost(reason=error.reason) from error.__cause__
            raise
        self._answered = monotonic()
        self._reachability.answered(started)

    async def check(self) -> None:
        """Raise a `DriverUnavailable` unless the database is as it was when it was opened."""
        async with self.acquire() as connection:
            await self._confirm(connection)
            if self.read_only and self._pool is not None:
                await self._renew(self._pool)
            if not self.has_records:
                await self._records.look(connection, self.database or frozenset())

    async def follow(self, before: Generation) -> None:
        """Take the generation that the database has, where `before` is still the one in use.

        Raises a `DriverUnavailable` where its model can't be used here.
        """
        if self.generations.now is before:
            async with self.acquire() as connection:
                await self._confirm(connection)

    async def _confirm(self, connection: Pooled, cause: BaseException | None = None) -> None:
        before = self.generations.now
        wrong = await self._checks.changed(connection)
        if wrong is not None:
            raise DatabaseChanged(reason=wrong) from cause
        if self.generations.now is before:
            return
        await self._records.look(connection, self.database or frozenset())
        if cause is not None:  # it may be that of vectors for the generation before
            raise ModelChanged from cause

    async def _renew(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        """Let connections be made anew, once in a while: a session stays read-only."""
        if monotonic() - self._renewed >= _RENEWAL_SECONDS:
            self._renewed = monotonic()
            await pool.expire_connections()

    def _give_up(self, pool: "asyncpg.Pool[asyncpg.Record] | None") -> None:
        """Let the next caller open the database anew; what uses the old pool may end."""
        if pool is None or pool is not self._pool:
            return
        self._pool = None
        leaving = asyncio.create_task(self._leave(pool))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        try:
            async with asyncio.timeout(self._settings.timeout):
                await pool.close()
        except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            pool.terminate()
        except asyncio.CancelledError:
            pool.terminate()
            raise

    async def fetch(self, statement: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of one statement."""
        async with self.acquire() as connection:
            return await connection.fetch(statement, *arguments)

    async def change(self, statement: str, *arguments: Any) -> int:
        """How many rows one statement wrote or deleted."""
        async with self.acquire() as connection:
            status = await connection.execute(statement, *arguments)
        return int(status.rpartition(" ")[2])

    async def _take(self, pool: "asyncpg.Pool[asyncpg.Record]") -> Pooled:
        try:
            return await pool.acquire(timeout=POOL_SECONDS)
        except TimeoutError as error:
            raise (PoolExhausted if self.all_busy else DriverUnavailable) from error

    @property
    def all_busy(self) -> bool:
        """Whether the pool is as large as it may be, and no connection is free."""
        pool = self._pool
        return (
            pool is not None
            and pool.get_idle_size() == 0
            and pool.get_size() >= pool.get_max_size()
        )

    @property
    def has_records(self) -> bool:
        """Whether there were records at the last look."""
        return self._records.seen

    @property
    def missing(self) -> str | None:
        """What is wrong, where records are expected and there are none, as of the last look."""
        return self._records.missing

    @property
    def read_only(self) -> str | None:
        """Why writes are refused, where they are, as of the last look."""
        return self._checks.read_only

    @property
    def language(self) -> str:
        """The language of the words that texts and queries have."""
        return self._checks.language

    def answered_within(self, seconds: float) -> bool:
        """Whether some statement succeeded in the last `seconds`."""
        return monotonic() - self._answered < seconds

    @property
    def dsn(self) -> str:
        """Where PostgreSQL is, for a connection besides the pool; only while it is open."""
        if self._server is not None:
            return self._server.dsn
        assert self._settings.url is not None  # noqa: S101 - there is no server without it
        return self._settings.url.get_secret_value()

    @property
    def _most(self) -> int:
        """Connections at most.

        A server on the same machine works off no more at once than it has processors for, and each
        of its connections takes five megabytes.
        """
        if self._settings.pool_max_size is not None:
            return self._settings.pool_max_size
        return _POOL_MAX_SIZE if self._server is None else min(_POOL_MAX_SIZE, 2 * cores() + 2)

    def facts(self) -> dict[str, Any]:
        """The pool's figures for `/health`."""
        pool = self._pool
        return {
            "pool_size": pool.get_size() if pool else 0,
            "pool_idle": pool.get_idle_size() if pool else 0,
            "pool_max_size": self._most,
        }

    async def _opened(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._closed:
            raise DriverUnavailable(reason="the driver is closed")
        if self._pool is not None:
            return self._pool
        if self._opening is None or self._opening.done():
            self._opening = asyncio.create_task(self._open())
            self._opening.add_done_callback(_retrieve)
        return await asyncio.shield(self._opening)

    async def _opened_in_time(self) -> "asyncpg.Pool[asyncpg.Record]":
        try:
            async with asyncio.timeout(POOL_SECONDS):
                return await self._opened()
        except TimeoutError as error:
            raise DriverUnavailable(reason="it takes long to connect") from error
        except (DriverTimeout, DriverUnavailable):
            raise
        except (ConfigurationError, DriverError) as error:
            if error.reason != self._refused:
                _log.error("postgresql_refused", reason=error.reason)
            self._refused = error.reason
            if self._served:
                raise DriverUnavailable(error.detail, reason=error.reason) from error
            raise

    async def _open(self) -> "asyncpg.Pool[asyncpg.Record]":
        with backend_errors():
            self._pool = await self._connect()
        self._served = True
        self._refused = None
        return self._pool

    async def _connect(self) -> "asyncpg.Pool[asyncpg.Record]":
        if self._server is not None:
            await self._server.open()
        await self.generations.open()
        dsn = self.dsn
        connection = await connect(self._settings, dsn, command_timeout=self._settings.timeout)
        try:
            schema = await self._checks.make(connection, dsn)
            await self._identify(connection)
            await self._records.look(connection, self.database or frozenset())
            await connection.close(timeout=_RELEASE_SECONDS)
        finally:
            connection.terminate()

        async def prepare(connection: Connection) -> None:
            await register_vector(connection, schema=schema)
            await connection.execute(SESSION)
            await self._identify(connection)

        async def connect_now(dsn: str | None = None, **options: Any) -> Connection:
            await asyncio.sleep(0)  # a socket without a server refuses at once: let others run
            if self._server is not None:
                dsn = self.dsn  # it may have moved
            return await asyncpg.connect(dsn, **options)

        return await asyncpg.create_pool(
            dsn,
            connect=connect_now,
            min_size=POOL_MIN_SIZE,
            max_size=self._most,
            timeout=CONNECT_SECONDS,
            command_timeout=self._settings.timeout,
            init=prepare,
            reset=_keep_session,
            server_settings={"application_name": "memory-driver-service"},
        )

    async def _identify(self, connection: Connection) -> None:
        """See which database a new connection leads to; if to another, the old ones are given up.

        A server may have been put in the place of another: restored, or failed over to. Raises
        `DatabaseChanged` where that one can't be used without being opened.
        """
        found: frozenset[str] = frozenset()
        refusal = None
        try:
            row = await connection.fetchrow(cluster.DATABASE)
            assert row is not None  # noqa: S101 - there is one row
            found = frozenset({cluster.database(*row)})
        except (pg.SyntaxOrAccessError, pg.FeatureNotSupportedError) as error:
            refusal = describe(error)
        if found == self.database:
            return
        if refusal is not None:
            _log.warning("postgresql_identity_unknown", reason=refusal)
        if self._pool is not None:
            wrong = await self._checks.changed(connection)
            if wrong is not None:
                raise DatabaseChanged(reason=f"a new connection leads elsewhere: {wrong}")
            await self._pool.expire_connections()
        self.database = found


async def _release(pool: "asyncpg.Pool[asyncpg.Record]", connection: Pooled) -> None:
    """Give a connection back. That it can't be is no failure of what it was used for."""
    try:
        await pool.release(connection, timeout=_RELEASE_SECONDS)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        _log.warning("connection_dropped", reason=describe(error))


async def _keep_session(_: Connection) -> None:
    """In place of the statements that asyncpg sends at every release, a round trip.

    No statement of ours changes its session. A transaction left open asyncpg rolls back before.
    """


def _retrieve(task: "asyncio.Task[Any]") -> None:
    if not task.cancelled():
        task.exception()
