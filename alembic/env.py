"""Run the migrations: on `DATABASE_URL`, or on the embedded server when it is unset.

The service passes its DSN and its model's dimension as attributes of the configuration. A command
line reads the settings, and loads the model only if a migration asks for the dimension. One lock
in the database lets only one process migrate at a time.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor

import asyncpg
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import NullPool

from alembic import context
from app.drivers.pgvector.embedded.server import EmbeddedPostgres
from app.embedding import build_embedder
from app.settings import EmbeddingSettings, load_settings

LOCK = 7_203_114_090_441_552_701
"""Any number that no other program uses with pg_advisory_lock in the same database."""

attributes = context.config.attributes


async def run() -> None:
    if "dsn" in attributes:
        await migrate(attributes["dsn"])
        return
    settings = load_settings()
    attributes["dimension"] = lambda: in_another_thread(dimension(settings.embedding))
    if settings.database.url is not None:
        await migrate(settings.database.url.get_secret_value())
        return
    server = EmbeddedPostgres(settings.database.data_dir)
    await server.open()
    try:
        await migrate(server.dsn)
    finally:
        await server.close()


async def dimension(settings: EmbeddingSettings) -> int:
    embedder = build_embedder(settings)
    await embedder.open()
    return embedder.dimension


def in_another_thread(work: Coroutine[None, None, int]) -> int:
    """A migration runs inside an event loop already, but is not a coroutine itself."""
    with ThreadPoolExecutor() as thread:
        return thread.submit(asyncio.run, work).result()


async def migrate(dsn: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    try:
        async with engine.connect() as connection:
            await connection.run_sync(migrate_locked)
            await connection.commit()
            await vacuum(connection, attributes.get("rewritten", ()))
    finally:
        await engine.dispose()


async def vacuum(connection: AsyncConnection, tables: Iterable[str]) -> None:
    """Mark the pages of tables that a migration wrote anew, which autovacuum does not see.

    Until then an index alone can't answer for them.
    """
    await connection.execution_options(isolation_level="AUTOCOMMIT")
    for table in tables:
        await connection.execute(text(f"vacuum (analyze) {table}"))


def migrate_locked(connection: Connection) -> None:
    connection.execute(text("set local lock_timeout = '60s'"))
    connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()


if context.is_offline_mode():
    raise SystemExit("The migrations need the database: --sql is not supported.")
asyncio.run(run())
