"""The journal's database: opened when it is needed, and with transactions that are whole."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from time import time
from typing import Any, TypeVar

from sqlalchemy import Select, func
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.memory.journal.opening import journal_errors, make_engine, refused, set_up
from app.errors import JournalUnavailable
from app.settings import JournalSettings

T = TypeVar("T")


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
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def shared(self) -> bool:
        """Whether other processes use it too."""
        return self._settings.url is not None

    @property
    def now(self) -> Any:
        """Seconds since the epoch, by the one clock that all who share it have."""
        return func.extract("epoch", func.clock_timestamp()) if self.shared else time()

    async def open(self) -> None:
        """Connect and make what is missing; twice is harmless.

        Raises `ConfigurationError` where the settings are wrong, and else `JournalUnavailable`.
        Later, a server that refuses what it accepted counts as away.
        """
        self._closed = False
        try:
            await self._opened()
        except JournalUnavailable as error:
            raise refused(error) or error from error.__cause__

    async def _opened(self) -> AsyncEngine:
        async with self._opening:
            if self._closed:
                raise JournalUnavailable(reason="journal: closed")
            if self._engine is None:
                engine = make_engine(self._settings, self._wrapper)
                try:
                    await set_up(engine, self._settings)
                    with journal_errors():
                        async with engine.begin() as connection:
                            await self._prepare(connection)
                except BaseException:
                    await engine.dispose()
                    raise
                self._engine = engine
            return self._engine

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
