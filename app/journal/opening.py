"""Where the journal lives: an engine for PostgreSQL or for a file, and how it is set up."""

import asyncio
import errno
import importlib
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import URL, event, text
from sqlalchemy.exc import ProgrammingError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app import cluster
from app.errors import ConfigurationError, InUse, JournalUnavailable
from app.journal.tables import create
from app.private import close_folder, keep_private
from app.settings import JournalSettings, place, real, wrong_option

FILES = ".sqlite"
"""How the names of the files end."""
_SETUP_LOCK = 5_406_117_203
"""Key of the advisory lock: replicas that start together make the tables one after the other."""

_GOODBYE_SECONDS = 0.1
"""Seconds to wait for the server's answer when a connection is closed."""
_LOST = ("08", "57P")
"""How a SQLSTATE begins where the connection, or the server, has ended."""
_CHANGED = ("42P01", "42703", "42704", "42883", "3F", "0A000", "XX")
"""How a SQLSTATE begins where a table, a column, a type or a schema is no more."""
_NOBODY = {errno.ECONNREFUSED, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENETUNREACH}
"""The errors of a connection that nobody takes, or that has no way to one of the addresses."""

_PRAGMAS = (
    "pragma busy_timeout = 1000",  # before the first that needs the lock: Python's own is 5 s
    "pragma locking_mode = exclusive",
    "pragma journal_mode = wal",
    "pragma synchronous = full",  # an acknowledged write survives a power cut
    "pragma foreign_keys = on",
)

_WRONG = {
    "28": "PostgreSQL does not let this user in with this password: correct them",
    "3D": "PostgreSQL has no such database: create it, or name another",
    "42501": "the user may not make tables in this database: grant that, or name another",
}
"""What a SQLSTATE, or its class, says of the URL."""


@contextmanager
def journal_errors(settings: JournalSettings) -> Iterator[None]:
    """Raise every error of the database, or of its socket, as `JournalUnavailable`."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError, ssl.SSLError) as error:
        cause = getattr(error, "orig", None) or error
        raise JournalUnavailable(reason=_where(settings, cause)) from error


def _where(settings: JournalSettings, cause: BaseException) -> str:
    """What failed, by the setting that says where the journal is."""
    if settings.url is None:
        return f"MEMORY_JOURNAL_PATH: {type(cause).__name__}"
    away = "can't be reached" if isinstance(cause, OSError) else "fails"
    server = place(settings.url.get_secret_value())
    return f"MEMORY_JOURNAL_URL: PostgreSQL at {server} {away} ({type(cause).__name__})"


def make_engine(settings: JournalSettings, wrapper: str) -> AsyncEngine:
    """An engine that has not connected yet."""
    if settings.url is not None:
        _need("asyncpg", "pgvector")
        return create_async_engine(
            "postgresql+asyncpg://",
            async_creator=partial(connect, settings.url.get_secret_value(), settings.timeout),
            pool_size=10,
            max_overflow=10,
            pool_timeout=settings.timeout,
            pool_pre_ping=True,
        )
    _need("aiosqlite", "journal")
    folder = real(settings.path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        close_folder(folder, _is_ours)
    except FileExistsError as error:
        raise ConfigurationError(
            f"MEMORY_JOURNAL_PATH: {folder} is a file: name a folder, which is made if it is not "
            "there"
        ) from error
    except OSError as error:
        raise ConfigurationError(
            f"MEMORY_JOURNAL_PATH: {folder} can't be made ({error.strerror})"
        ) from error
    file = file_of(settings, wrapper)
    _close_files(file)
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(file)),
        pool_size=1,  # transactions one after the other, as SQLite has them
        max_overflow=0,
        pool_timeout=settings.timeout,
    )
    event.listen(engine.sync_engine, "connect", _configure)
    return engine


def _is_ours(name: str) -> bool:
    return FILES in name


def _close_files(file: Path) -> None:
    """Make the file, and let no other user read it, nor those that SQLite puts beside it.

    Raises `ConfigurationError` for a file of another user.
    """
    for path in (file, *(file.with_name(f"{file.name}{end}") for end in ("-wal", "-shm"))):
        if path == file or path.exists():
            try:
                keep_private(path)
            except OSError as error:
                raise ConfigurationError(
                    f"MEMORY_JOURNAL_PATH: {path} can't be used ({error.strerror}): give it to the "
                    "user of the service, or choose another folder"
                ) from error


def file_of(settings: JournalSettings, wrapper: str) -> Path:
    """Where a wrapping driver's journal is, unless it is in PostgreSQL."""
    return real(settings.path) / f"{wrapper}{FILES}"


async def connect(dsn: str, timeout: float) -> Any:  # noqa: ASYNC109 - the driver's own
    """Connect by all that asyncpg reads of a URL; raises OSError for any failure."""
    asyncpg = importlib.import_module("asyncpg")
    try:
        return await asyncpg.connect(
            dsn, timeout=timeout, command_timeout=timeout, connection_class=_brief()
        )
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise ConnectionError(type(error).__name__) from error


@cache
def _brief() -> Any:
    """A class of connections that are closed quickly, also where the server does not answer."""
    asyncpg: Any = importlib.import_module("asyncpg")

    class Brief(asyncpg.Connection):  # type: ignore[misc] # the module may be missing
        __slots__ = ()

        async def close(self, *, timeout: float | None = None) -> None:  # noqa: ASYNC109
            """Say goodbye; a connection that can't is ended all the same."""
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                async with asyncio.timeout(_GOODBYE_SECONDS):
                    await super().close(timeout=timeout)

    return Brief


async def ask(settings: JournalSettings) -> None:
    """Raise `JournalUnavailable` unless the server answers a new connection."""
    if settings.url is None:
        return
    asyncpg = importlib.import_module("asyncpg")
    with journal_errors(settings):
        connection = await connect(settings.url.get_secret_value(), settings.timeout)
        try:
            await connection.execute("select 1")
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise ConnectionError(type(error).__name__) from error
        finally:
            await connection.close()


def is_away(error: JournalUnavailable) -> bool:
    """Whether the server did not answer or was lost, rather than refused something."""
    cause, source = error.__cause__, _source(error)
    state = getattr(source, "sqlstate", None)
    if state is not None:
        return str(state).startswith(_LOST)
    if isinstance(source, ValueError):  # the client, before it asks a server
        return False
    return isinstance(cause, OSError) or bool(getattr(cause, "connection_invalidated", False))


def is_changed(error: JournalUnavailable) -> bool:
    """Whether the server has another database, or other tables, than those that were opened."""
    state = getattr(_source(error), "sqlstate", None)
    return str(state or "").startswith(_CHANGED)


def nobody_listens(error: JournalUnavailable) -> bool:
    """Whether every address of the server refused at once."""
    # Where addresses of one host fail differently, the socket's errors are one text without a kind.
    told = re.findall(r"\[Errno (\d+)\]", str(error.__cause__))
    refused_at_once = isinstance(error.__cause__, OSError) and {*map(int, told)} <= _NOBODY
    return bool(told) and refused_at_once


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
    """Make the tables that are missing.

    Raises `ConfigurationError` for a file that another process has open, `JournalUnavailable` when
    it may work later.
    """
    try:
        with journal_errors(settings):
            async with engine.begin() as connection:
                if settings.url is not None:
                    await connection.execute(
                        text("select pg_advisory_xact_lock(:key)"), {"key": _SETUP_LOCK}
                    )
                await connection.run_sync(create)
    except JournalUnavailable as error:
        if settings.url is None:
            said = _said(error)
            kind = InUse if "locked" in said else ConfigurationError
            raise kind(
                f"MEMORY_JOURNAL_PATH: {settings.path} can't be used ({said}): it is one "
                "process's own; several share a PostgreSQL, MEMORY_JOURNAL_URL"
            ) from error
        raise


async def which(engine: AsyncEngine) -> str | None:
    """The server's cluster; None where the user may not ask."""
    async with engine.connect() as connection:
        try:
            return cluster.cluster(await connection.scalar(text(cluster.CLUSTER)))
        except ProgrammingError:
            return None


def refused(settings: JournalSettings, error: JournalUnavailable) -> ConfigurationError | None:
    """What is wrong with the URL; None where that is not why the call failed."""
    source = _source(error)
    if isinstance(source, ValueError):  # the client, before it asks a server
        return ConfigurationError(f"MEMORY_JOURNAL_URL: {str(source).splitlines()[0]}")
    option = wrong_option(settings.url, source)
    if option is not None:
        return ConfigurationError(f"MEMORY_JOURNAL_URL: {option}")
    state = getattr(source, "sqlstate", None) or ""
    wrong = _WRONG.get(state) or _WRONG.get(state[:2])
    return ConfigurationError(f"MEMORY_JOURNAL_URL: {wrong} ({state})") if wrong else None


def _source(error: JournalUnavailable) -> object:
    """What the database's client raised."""
    cause = error.__cause__
    return getattr(cause, "orig", None) or getattr(cause, "__cause__", None)


def _said(error: JournalUnavailable) -> str:
    return str(getattr(error.__cause__, "orig", error.__cause__))
