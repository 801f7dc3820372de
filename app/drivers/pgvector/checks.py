"""What a database must be to be used: its schema, its model and its language."""

from typing import TypeAlias

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from pgvector.asyncpg import register_vector
from sqlalchemy.exc import DBAPIError

from app.drivers.pgvector import migrations
from app.drivers.pgvector.errors import describe, translate
from app.drivers.pgvector.sql import memories as sql
from app.embedding import Embedder, Vector
from app.errors import ConfigurationError, DriverTimeout, DriverUnavailable
from app.logs import get_logger
from app.settings import DatabaseSettings, place

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Pooled: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"

_SAMPLE = "Ada keeps a copper kettle on the windowsill and waters the basil on Sundays."
_AGREEMENT = 0.999
"""Least cosine between one model's vectors of the sample, whatever engine computes them."""

_LOCK_NOT_AVAILABLE = "55P03"
_OLDEST_PGVECTOR = (0, 8)

_log = get_logger(__name__)


class Checks:
    """Made in full when a database is opened; later one statement asks whether they still hold."""

    def __init__(self, settings: DatabaseSettings, embedder: Embedder, language: str) -> None:
        self.language = language
        """The text search configuration that texts and queries are split into words by."""
        self._wanted_language = language
        """The one to use in every database that knows it."""
        self._settings = settings
        self._embedder = embedder
        self._sample: Vector | None = None
        """Our model's vector of the sample, once a database was opened."""

    async def make(self, connection: Connection, dsn: str) -> str:
        """Migrate where that is allowed, and check all; the schema where pgvector's types are.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        await self._migrate(connection, dsn)
        schema = str(await connection.fetchval(sql.EXTENSION_SCHEMA))
        await register_vector(connection, schema=schema)
        await self._check_model(connection)
        await self._check_language(connection)
        return schema

    async def still_hold(self, connection: "Connection | Pooled") -> bool:
        """Whether schema, model and language are those of the database that was opened."""
        ours = self._embedder
        try:
            rows = await connection.fetch(
                sql.AS_OPENED, self._sample, ours.dimension, _AGREEMENT, self.language
            )
        except asyncpg.PostgresError as error:
            if isinstance(translate(error), DriverTimeout):
                raise
            return False
        return len(rows) == 1

    async def _migrate(self, connection: Connection, dsn: str) -> None:
        where = place(dsn)
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
        if self._settings.migrates and migrations.is_older(revision):
            try:
                await migrations.upgrade(dsn, self._embedder.dimension)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                    reason = f"another process migrates the database at {where}"
                    raise DriverUnavailable(reason=reason) from error
                raise ConfigurationError(
                    f"the database at {where} can't be migrated ({describe(error)}); "
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
            raise ConfigurationError(
                f"the database at {where} has schema {revision or 'none'}, and this version needs "
                f"{head}: run {self._settings.upgrade}, or set "
                f"{self._settings.called('migrate')}=true"
            )

    async def _revision(self, connection: Connection) -> str | None:
        if not await connection.fetchval(sql.REVISION_TABLE):
            return None
        revision: str | None = await connection.fetchval(sql.REVISION)
        return revision

    async def _check_model(self, connection: Connection) -> None:
        """Refuse a model other than the one that the rows were embedded with.

        It is known by its vector of one sentence, so the same model by another path or another
        engine is the same, and another model of the same name and dimension is not.
        """
        ours = self._embedder
        dimension = await connection.fetchval(sql.DIMENSION)
        same = dimension == ours.dimension
        name = None
        if same:
            sample = self._sample = (await ours.embed([_SAMPLE]))[0]
            await connection.execute(sql.REMEMBER_MODEL, ours.name, ours.dimension, sample)
            model = await connection.fetchrow(sql.MODEL, sample)
            assert model is not None  # noqa: S101 - it was just remembered
            same = model["agreement"] >= _AGREEMENT
            name = model["name"]
        if not same:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: {ours.name!r} ({ours.dimension} dimensions) is not the "
                f"model of this database's vectors ({name or 'another'}, {dimension} dimensions): "
                "set it back, choose another database, or give up the stored records with "
                "`alembic downgrade base` and `alembic upgrade head`"
            )

    async def _check_language(self, connection: Connection) -> None:
        """Take the language that the stored words are of, or `simple` for one not known here."""
        row = await connection.fetchrow(sql.LANGUAGE, self._wanted_language)
        assert row is not None  # noqa: S101 - `_check_model` has made it
        if row["wanted"] not in {self._wanted_language, self.language}:  # else it is told already
            _log.warning("language_unknown", language=self._wanted_language, instead=row["wanted"])
        if row["wanted"] != row["language"]:
            if await connection.fetchval(sql.HAS_MEMORIES):
                raise ConfigurationError(
                    f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are "
                    f"{row['language']}, not {row['wanted']}: set it back, or run "
                    "`memory-driver language` to split them anew"
                )
            await connection.execute(sql.SET_LANGUAGE, row["wanted"])
        self.language = row["wanted"]
