"""The journal's database: opened when it is needed, and with transactions that are whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import monotonic, time
from typing import Any, TypeVar

import structlog
from sqlalchemy import Select, func
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.memory.journal.opening import journal_errors, make_engine, refused, set_up
from app.errors import ConfigurationError, JournalUnavailable
from app.settings import JournalSettings

T = TypeVar("T")

_log = structlog.stdlib.get_logger(__name__)


class Database:
    """PostgreSQL, or a file of this process. Every failure leaves as `JournalUnavailable`."""

    def __init__(
        self,
        settings: JournalSettings,
        wrapper: str,
        prepare: Callable[[AsyncConnection], Awaitable[None]],
    ) -> None:
        """`prepare` is done in each new database before it is used."""
        self._settings = settings
        self._wrapper = wrapper
        self._prepare = prepare
        self._engine: AsyncEngine | None = None
        self._opening = asyncio.Lock()
        self._closed = False
        self._wrong: ConfigurationError | None = None
        """Why it did not open itself."""
        self._again = 0.0
        """When to try that again, by the monotonic clock."""
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def shared(self) -> bool:
        """Whether other processes use it too."""
        return self._settings.url is not None

    @property
    def reached(self) -> bool:
        """Whether it was opened."""
        return self._engine is not None

    @property
    def now(self) -> Any:
        """Seconds since the epoch, by the one clock that all who share it have."""
        return func.extract("epoch", func.clock_timestamp()) if self.shared else time()

    async def open(self) -> None:
        """Connect and make what is missing; twice is harmless.

        Raises `ConfigurationError`, or `JournalUnavailable`: then it opens itself when it can.
        Later, a server that refuses what it accepted counts as away.
        """
        self._closed = False
        async with self._opening:
            if self._engine is None:
                try:
                    self._engine = await self._connected()
                except JournalUnavailable as error:
                    raise refused(error) or error from error.__cause__

    async def _connected(self) -> AsyncEngine:
        engine = make_engine(self._settings, self._wrapper)
        try:
            await set_up(engine, self._settings)
            with journal_errors():
                async with engine.begin() as connection:
                    await self._prepare(connection)
        except BaseException:
            await engine.dispose()
            raise
        return engine

    async def _opened(self) -> AsyncEngine:
        """Open it where it was away when it was to be opened.

        What is wrong with the configuration shows only now: it is logged once. Until it is mended
        the journal is as good as away, so that what can do without goes on, and no write that
        needs it is taken.
        """
        async with self._opening:
            if self._engine is not None:
                return self._engine
            if self._closed:
                raise JournalUnavailable(reason="journal: closed")
            if self._wrong is None or monotonic() >= self._again:
                try:
                    self._engine = await self._connected()
                except ConfigurationError as error:
                    self._again = monotonic() + self._settings.interval
                    if self._wrong is None or self._wrong.reason != error.reason:
                        _log.error("journal_refused", wrapper=self._wrapper, reason=error.reason)
                    self._wrong = error
                else:
                    self._wrong = None
                    return self._engine
            raise JournalUnavailable(self._wrong.detail, reason=self._wrong.reason)

    async def close(self) -> None:
        """Disconnect, after what is under way."""
        self._closed = True
        if self._running:
            await asyncio.wait(self._running)
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def rows(self, wanted: Select[Any]) -> Sequence[Any]:
        """What a query answers."""

        async def work(connection: AsyncConnection) -> Sequence[Any]:
            rows: Sequence[Any] = (await connection.execute(wanted)).all()
            return rows

        return await self.transaction(work)

    async def execute(self, statement: Any) -> None:
        """Make one change."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self.transaction(work)

    async def transaction(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        then: Callable[[], None] = lambda: None,
    ) -> T:
        """Do the work in a transaction, whole even where its caller is cancelled.

        A cancelled statement would cost a file its only connection.
        """

        async def whole() -> T:
            try:
                async with self.begin() as connection:
                    return await work(connection)
            finally:
                then()

        task = asyncio.create_task(whole())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for the time of a block, which ends with its caller."""
        engine = self._engine or await self._opened()
        with journal_errors():
            async with engine.begin() as connection:
                yield connection
