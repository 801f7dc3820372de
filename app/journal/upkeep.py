"""What an operator does to a journal: show what is pending, rename its driver, or drop it.

A journal in PostgreSQL may be in use meanwhile; a file may not. Nothing here makes a journal.
Every function raises `ConfigurationError` for a file that is in use, and `JournalUnavailable`.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, inspect, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigurationError, JournalUnavailable
from app.journal.entries import Lag
from app.journal.opening import FILES, file_of, journal_errors, make_engine, refused
from app.journal.tables import deliveries, entries, metadata, parts
from app.journal.waiting import lags, waiting
from app.settings import JournalSettings


def has_files(settings: JournalSettings) -> list[str]:
    """The wrapping drivers that have a file of their own, configured or not."""
    folder = file_of(settings, "any").parent
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(
            f"MEMORY_JOURNAL_PATH: {folder} can't be read as a folder ({error.strerror})"
        ) from error
    return sorted(name.removesuffix(FILES) for name in names if name.endswith(FILES))


async def with_journal(settings: JournalSettings) -> set[str]:
    """The wrapping drivers that have a file, or something pending in PostgreSQL."""
    if settings.url is None:
        return set(has_files(settings))
    return {wrapper for wrapper, _ in await all_waiting(settings)}


async def all_waiting(
    settings: JournalSettings, wrapper: str | None = None, unread: dict[str, str] | None = None
) -> dict[tuple[str, str], Lag]:
    """What is pending, by wrapping driver and driver; of `wrapper` alone where that is given.

    Raises `ConfigurationError` for a file that can't be read; with `unread`, puts the reason there.
    """
    files = [wrapper] if wrapper is not None else has_files(settings)
    wanted = waiting() if wrapper is None else waiting().where(entries.c.wrapper == wrapper)
    rows: list[Any] = []
    for each in files if settings.url is None else ("",):
        try:
            async with _journal(settings, each) as connection:
                if connection is not None:
                    rows += (await connection.execute(wanted)).all()
        except ConfigurationError as error:
            if unread is None or settings.url is not None:
                raise
            unread[each] = error.reason
    return lags(rows)


async def rename(settings: JournalSettings, wrapper: str, old: str, new: str) -> int:
    """Let `new` get what is pending for `old`; how many writes that are."""
    count = 0
    async with _journal(settings, wrapper) as connection:
        if connection is not None:
            for seqs in await _locked(connection, wrapper, old):
                theirs = (deliveries.c.seq.in_(seqs), deliveries.c.target == old)
                twice = delete(deliveries).where(*theirs, _waits_too(new))
                count += (await connection.execute(twice)).rowcount
                moved = update(deliveries).where(*theirs).values(target=new, dead_letter=False)
                count += (await connection.execute(moved)).rowcount
    return count


async def drop(settings: JournalSettings, wrapper: str, driver: str) -> int:
    """Drop what is pending for the driver; how many writes that were. Tombstones stay."""
    count = 0
    async with _journal(settings, wrapper) as connection:
        if connection is not None:
            left = exists().where(deliveries.c.seq == entries.c.seq)
            for seqs in await _locked(connection, wrapper, driver):
                theirs = (deliveries.c.seq.in_(seqs), deliveries.c.target == driver)
                given_up = delete(deliveries).where(*theirs)
                count += (await connection.execute(given_up)).rowcount
                await connection.execute(delete(entries).where(entries.c.seq.in_(seqs), ~left))
    return count


def _waits(wrapper: str, driver: str) -> ColumnElement[bool]:
    return (entries.c.wrapper == wrapper) & (deliveries.c.target == driver)


def _waits_too(driver: str) -> ColumnElement[bool]:
    """Whether the write of a delivery is pending for this driver as well."""
    its = deliveries.alias("its")
    return exists().where(its.c.seq == deliveries.c.seq, its.c.target == driver)


async def _locked(connection: AsyncConnection, wrapper: str, driver: str) -> list[Sequence[int]]:
    """The places of what is pending for the driver, in parts; locked until the transaction ends."""
    mine = (
        select(entries.c.seq)
        .join(deliveries, deliveries.c.seq == entries.c.seq)
        .where(_waits(wrapper, driver))
        .order_by(entries.c.seq)
        .with_for_update(of=entries)
    )
    seqs = (await connection.execute(mine)).scalars().all()
    return parts(seqs)


@asynccontextmanager
async def _journal(
    settings: JournalSettings, wrapper: str
) -> AsyncIterator[AsyncConnection | None]:
    """A transaction for the time of a block; None where there is no journal."""
    if settings.url is None and wrapper not in has_files(settings):
        yield None
        return
    engine = make_engine(settings, wrapper)
    try:
        with _told(settings, wrapper), journal_errors(settings):
            async with engine.begin() as connection:
                yield connection if await connection.run_sync(_is_there) else None
    finally:
        await engine.dispose()


def _is_there(connection: Any) -> bool:
    there = inspect(connection).get_table_names()
    return all(name in there for name in metadata.tables)


@contextmanager
def _told(settings: JournalSettings, wrapper: str) -> Iterator[None]:
    try:
        yield
    except JournalUnavailable as error:
        if settings.url is not None:
            raise refused(settings, error) or error from error.__cause__
        said = str(getattr(error.__cause__, "orig", error.__cause__))
        if "locked" in said:
            said = "a service has it open: stop it first; its /health tells what waits"
        raise ConfigurationError(
            f"MEMORY_JOURNAL_PATH: {file_of(settings, wrapper)}: {said}"
        ) from error
