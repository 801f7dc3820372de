"""What a database must be to be used: its schema, its model and its language."""

from time import monotonic
from typing import TypeAlias

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy
from pgvector.asyncpg import register_vector

from app.drivers.pgvector import migrations
from app.drivers.pgvector.errors import describe, translate
from app.drivers.pgvector.generations import Generations
from app.drivers.pgvector.sql import memories as sql
from app.embedding import AGREEMENT
from app.errors import ConfigurationError, DatabaseChanged, DriverTimeout, DriverUnavailable
from app.logs import get_logger
from app.ranking.words import VERSION
from app.settings import DatabaseSettings, place, real

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"


_LOCK_NOT_AVAILABLE = "55P03"
_OLDEST_PGVECTOR = (0, 8)

_EMPTY_SECONDS = 30.0
"""How long a database that was open before has to be empty until it is migrated."""
_NOT_WHOLE = (
    "a table, its primary key or its one row is missing: where a restore runs, wait for it; else "
    "restore again"
)
_OTHER_MODEL = "its vectors are another model's: set that model, or restore"
_READ_ONLY = (
    "PostgreSQL takes no writes: it is a standby, or default_transaction_read_only is on; "
    "set that off, or connect to the server that takes them"
)

_log = get_logger(__name__)


class Checks:
    """Made in full when a database is opened; later one statement asks whether they still hold."""

    def __init__(self, settings: DatabaseSettings, generations: Generations, language: str) -> None:
        self.language = language
        """The language of the words that texts and queries have."""
        self._settings = settings
        self._generations = generations
        self.read_only: str | None = None
        """Why writes are refused, where they are, as of the last look."""
        self._opened = False
        """Whether a database was opened: what is found later may be half of a restore."""
        self._empty_since: float | None = None
        """Since when every look found it empty, by the monotonic clock."""

    async def make(self, connection: Connection, dsn: str) -> str:
        """Migrate where that is allowed, and check all; the schema where pgvector's types are.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        try:
            await self._migrate(connection, dsn)
            if not await connection.fetchval(sql.WHOLE):
                raise ConfigurationError(f"the database at {self._place(dsn)}: {_NOT_WHOLE}")
            schema = str(await connection.fetchval(sql.EXTENSION_SCHEMA))
            await register_vector(connection, schema=schema)
            await self._generations.take(connection)
            await self._check_words(connection)
            wrong = await self.changed(connection)
        except pg.ReadOnlySQLTransactionError as error:
            raise ConfigurationError(f"the database at {self._place(dsn)}: {_READ_ONLY}") from error
        except pg.InsufficientPrivilegeError as error:
            wrong = await self._lacking(connection, error)
        if wrong is not None:
            raise ConfigurationError(f"the database at {self._place(dsn)}: {wrong}")
        self._opened, self._empty_since = True, None
        return schema

    async def changed(self, connection: "Connection | Pooled") -> str | None:
        """What is not as it was opened, and what to do; None where all is.

        Another model that a re-embedding has brought is taken. Where all is as it was it sees, too,
        whether writes are refused.
        """
        before = self._generations.now
        wrong = await self._otherwise(connection)
        if wrong == _OTHER_MODEL:
            try:
                await self._generations.take(connection)
            except ConfigurationError:
                return wrong
            if self._generations.now is not before:
                return await self._otherwise(connection)
        return wrong

    async def _otherwise(self, connection: "Connection | Pooled") -> str | None:
        ours = self._generations.now
        words = (self.language, VERSION)
        try:
            rows = await connection.fetch(
                sql.AS_OPENED, ours.sample, ours.dimension, AGREEMENT, *words, ours.number
            )
        except pg.InsufficientPrivilegeError as error:
            return await self._lacking(connection, error)
        except asyncpg.PostgresError as error:
            meant = translate(error)
            if isinstance(meant, DriverTimeout | DriverUnavailable) and not isinstance(
                meant, DatabaseChanged
            ):
                raise  # it could not be asked
            return (
                f"a table is not what this version needs ({describe(error)}): undo what changed "
                "it, or restore"
            )
        if len(rows) != 1 or not rows[0]["whole"]:
            return _NOT_WHOLE
        [row] = rows
        if not row["same_model"]:
            return _OTHER_MODEL
        if not row["same_words"]:
            return "its words are of another language or version: set that language, or restore"
        self._see(_privileges(row["lacking"]) or (_READ_ONLY if row["read_only"] else None))
        return None

    def _see(self, read_only: str | None) -> None:
        if read_only != self.read_only:
            if read_only is not None:
                _log.error("postgresql_read_only", reason=read_only)
            else:
                _log.warning("postgresql_writable")
        self.read_only = read_only

    async def _lacking(
        self, connection: "Connection | Pooled", error: pg.InsufficientPrivilegeError
    ) -> str:
        return _privileges(await connection.fetchval(sql.LACKING)) or describe(error)

    def _place(self, dsn: str) -> str:
        """What an operator knows the database by: a server, or the embedded one's folder."""
        return str(real(self._settings.data_dir)) if self._settings.url is None else place(dsn)

    async def _migrate(self, connection: Connection, dsn: str) -> None:
        where = self._place(dsn)
        encoding = await connection.fetchval(sql.ENCODING)
        if encoding != "UTF8":
            raise ConfigurationError(
                f"the database at {where} is encoded as {encoding}, which can't keep every text: "
                "create it with encoding UTF8"
            )
        version = await connection.fetchval(sql.EXTENSION_VERSION)
        if version is None:
            raise ConfigurationError(
                f"PostgreSQL at {where} lacks the extension pgvector: install it there (Debian: "
                "postgresql-NN-pgvector; container: the image pgvector/pgvector)"
            )
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_PGVECTOR:
            raise ConfigurationError(
                f"PostgreSQL at {where} has pgvector {version}, and 0.8 or newer is needed: "
                "install it there, then run: alter extension vector update"
            )
        head = migrations.head()
        revision = await self._revision(connection)
        older = migrations.is_older(revision)
        if self._settings.migrates and await self._may_migrate(connection, older=older):
            try:
                await migrations.upgrade(dsn, self._generations.now.dimension)
            except migrations.MigrationFailed as error:
                if error.sqlstate == _LOCK_NOT_AVAILABLE:
                    reason = f"another process migrates the database at {where}"
                    raise DriverUnavailable(reason=reason) from error
                raise ConfigurationError(
                    f"the database at {where} can't be migrated ({describe(error.cause)}); "
                    "if the role may not create extensions, let an administrator run: "
                    "create extension vector"
                ) from error
            if revision is None:
                told = (
                    "a new, empty database: were records here before, it is not the one with them"
                )
                _log.warning("database_created", place=where, detail=told)
            revision = await self._revision(connection)
        if revision != head:
            other = f"set {self._settings.called('migrate')}=true"
            if self._settings.migrates and self._opened:
                other = (
                    "start the service again. A running one migrates only a database that stays "
                    f"empty for {_EMPTY_SECONDS:.0f} s, as a restore may be under way"
                )
            raise ConfigurationError(
                f"the database at {where} has schema {revision or 'none'}, and this version needs "
                f"{head}: run {self._settings.upgrade}, or {other}"
            )

    async def _may_migrate(self, connection: Connection, *, older: bool) -> bool:
        """At the start always; later only what stays empty, which no restore leaves so."""
        since, self._empty_since = self._empty_since, None
        if not self._opened or not older:
            return older
        if await connection.fetchval(sql.EMPTY):
            self._empty_since = monotonic() if since is None else since
        return self._empty_since is not None and monotonic() - self._empty_since >= _EMPTY_SECONDS

    async def _revision(self, connection: Connection) -> str | None:
        if not await connection.fetchval(sql.REVISION_TABLE):
            return None
        revision: str | None = await connection.fetchval(sql.REVISION)
        return revision

    async def _check_words(self, connection: Connection) -> None:
        """Refuse words of another language or version; where there are none, take ours."""
        row = await connection.fetchrow(sql.WORDS)
        assert row is not None  # noqa: S101 - `Generations.take` has made it
        if (row["language"], row["words"]) == (self.language, VERSION):
            return
        if await connection.fetchval(sql.HAS_MEMORIES):
            other = f"{row['language']}, not {self.language}"
            if row["language"] == self.language:
                other = f"of version {row['words']}, not {VERSION}"
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are {other}: set it "
                "back, or run `memory-driver words rebuild`"
            )
        await connection.execute(sql.SET_WORDS, self.language, VERSION)


def _privileges(lacking: str | None) -> str | None:
    return f"the role needs {lacking}: grant that to it" if lacking else None
