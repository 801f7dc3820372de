"""Where the journal lives: an engine for PostgreSQL or for a file, and how it is set up."""

import asyncio
import importlib
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.core.memory.journal.tables import metadata
from app.errors import ConfigurationError, JournalUnavailable
from app.settings import JournalSettings, servers

FILES = ".sqlite"
"""How the names of the files end."""
_SETUP_LOCK = 5_406_117_203
"""Key of the advisory lock: replicas that start together make the tables one after the other."""

_PRAGMAS = (
    "pragma locking_mode = exclusive",
    "pragma journal_mode = wal",
    "pragma synchronous = full",  # an acknowledged write survives a power cut
    "pragma foreign_keys = on",
    "pragma busy_timeout = 1000",
)


@contextmanager
def journal_errors() -> Iterator[None]:
    """Let no error of the database or its socket leave but as `JournalUnavailable`."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError, ssl.SSLError) as error:
        cause = getattr(error, "orig", None) or error
        raise JournalUnavailable(reason=f"journal: {type(cause).__name__}") from error


def make_engine(settings: JournalSettings, wrapper: str) -> AsyncEngine:
    """An engine that has not connected yet."""
    if settings.url is not None:
        _need("asyncpg", "pgvector")
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(_connect, settings.url.get_secret_value(), settings.timeout),
            pool_size=10,
            max_overflow=10,
            pool_timeout=settings.timeout,
            pool_pre_ping=True,
        )
    _need("aiosqlite", "journal")
    folder = settings.path.expanduser().resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"MEMORY_JOURNAL_PATH: {folder} can't be made ({error.strerror})"
        ) from error
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file_of(settings, wrapper))),
        pool_size=1,  # transactions one after the other, as SQLite has them
        max_overflow=0,
        pool_timeout=settings.timeout,
    )
    event.listen(engine.sync_engine, "connect", _configure)
    return engine


def file_of(settings: JournalSettings, wrapper: str) -> Path:
    """Where a wrapping driver's journal is, unless it is in PostgreSQL."""
    return settings.path.expanduser().resolve() / f"{wrapper}{FILES}"


async def _connect(dsn: str, timeout: float) -> Any:  # noqa: ASYNC109 - the driver's own
    """A connection, by all that asyncpg reads of a URL; raises OSError for any failure."""
    asyncpg = importlib.import_module("asyncpg")
    try:
        return await asyncpg.connect(dsn, timeout=timeout, command_timeout=timeout)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise ConnectionError(type(error).__name__) from error


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _need(module: str, extra: str) -> None:
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the journal needs {error.name}: pip install 'memory-driver-service[{extra}]'"
        ) from error


async def set_up(engine: AsyncEngine, settings: JournalSettings) -> None:
    """Make what tables are missing.

    Raises `ConfigurationError` for a file that another process has, `JournalUnavailable` when it
    may work later.
    """
    try:
        with journal_errors():
            async with engine.begin() as connection:
                if settings.url is not None:
                    await connection.execute(
                        text("select pg_advisory_xact_lock(:key)"), {"key": _SETUP_LOCK}
                    )
                await connection.run_sync(metadata.create_all)
    except JournalUnavailable as error:
        if settings.url is None:
            raise ConfigurationError(
                f"MEMORY_JOURNAL_PATH: {settings.path} can't be used ({_said(error)}): it is one "
                "process's own; several share a PostgreSQL, MEMORY_JOURNAL_URL"
            ) from error
        raise


def _said(error: JournalUnavailable) -> str:
    return str(getattr(error.__cause__, "orig", error.__cause__))


async def refuse_same_server(
    settings: JournalSettings, needed: frozenset[tuple[str, int]], wrapper: str
) -> None:
    """Raise `ConfigurationError` when the journal lives where the drivers do."""
    ours = servers(settings.url)
    if not ours:
        return
    names = {address: await _resolved(*address) for address in (*ours, *needed)}
    for journal in ours:
        for driver in needed:
            if names[journal] & names[driver]:
                host, port = driver
                raise ConfigurationError(
                    f"MEMORY_JOURNAL_URL: {host}:{port} is also the server of a driver that "
                    f"{wrapper} holds, whose outage the journal has to survive: use another "
                    "server, or unset it for a file"
                )


async def _resolved(host: str, port: int) -> frozenset[tuple[str, int]]:
    if host.startswith("/"):  # the folder of a Unix socket
        return frozenset({(host.rstrip("/"), port)})
    found = {(host.lower(), port)}
    try:
        infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        found |= {(str(info[4][0]), port) for info in infos}
    except OSError:
        pass
    # All names of this machine are one.
    local = any(name == "::1" or name.startswith("127.") for name, _ in found)
    return frozenset(found | {("localhost", port)} if local else found)
