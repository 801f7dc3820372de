"""The journal's database: opened when it is needed, and with transactions that are whole.

A server that is away keeps its callers waiting once, not each time: until the probe reaches it
every call fails at once. Where nobody listens each call tries: it is told so at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from time import monotonic, time
from typing import Any, TypeVar

from sqlalchemy import Select, func
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import ConfigurationError, JournalUnavailable
from app.journal.opening import (
    ask,
    is_away,
    is_changed,
    journal_errors,
    make_engine,
    nobody_listens,
    refused,
    set_up,
    which,
)
from app.logs import get_logger
from app.reachability import Reachability
from app.settings import JournalSettings
from app.tasks import end

T = TypeVar("T")

INTERVAL = 1.0
"""Seconds between two looks for what others left to deliver."""
_CLOSING_SECONDS = 1.0
"""What is under way when it is closed has that long, or longer where the server answers."""

_log = get_logger(__name__)


class Database:
    """PostgreSQL, or a file of this process. Every failure leaves as `JournalUnavailable`."""

    def __init__(
        self,
        settings: JournalSettings,
        wrapper: str,
        prepare: Callable[[AsyncConnection], Awaitable[None]],
        check: Callable[[], None],
    ) -> None:
        """`prepare` is done in each new database before it is used, `check` before each use.

        `check` raises `ConfigurationError` where the database must not be used: since what it
        looks at may be known only later, it costs no I/O.
        """
        self._settings = settings
        self._wrapper = wrapper
        self.interval = INTERVAL
        self._prepare = prepare
        self._check = check
        self.cluster: str | None = None
        """Which PostgreSQL it is in; None where it is not known."""
        self._engine: AsyncEngine | None = None
        self._opening: asyncio.Task[AsyncEngine] | None = None
        """The attempt that all wait for who need it open."""
        self._closed = False
        self._wrong: ConfigurationError | None = None
        """Why it is not used, although it is there."""
        self._again = 0.0
        """When to try that again, by the monotonic clock."""
        self._running: set[asyncio.Task[Any]] = set()
        self._reachability = Reachability(
            "journal",
            wrapper,
            probe=self._is_there,
            limit=2 * settings.timeout,
            on_back=self._ask_again,
        )
        self._silent: JournalUnavailable | None = None
        """Why no call tries, while the server is away without saying so."""
        self._emptying: asyncio.Task[None] | None = None
        """Drops the connections to a server that is away; cancelled it would be loud."""
        self._waiting: set[asyncio.Timeout] = set()
        """The limits of those that wait for a connection."""

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

        Raises `ConfigurationError`, or `JournalUnavailable`: then it opens itself when it can.
        Later, a server that refuses what it accepted counts as away.
        """
        self._closed = False
        self._reachability.start()
        if self._engine is None:
            try:
                await self._connected()
            except JournalUnavailable as error:
                raise refused(self._settings, error) or error from error.__cause__

    async def _connected(self) -> AsyncEngine:
        """Connect, all who need it by one attempt, which a caller's end does not end."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect())
        return await asyncio.shield(self._opening)

    async def _connect(self) -> AsyncEngine:
        started = monotonic()
        try:
            engine = make_engine(self._settings, self._wrapper)
            try:
                await set_up(engine, self._settings)
                with journal_errors(self._settings):
                    async with engine.begin() as connection:
                        await self._prepare(connection)
                    self.cluster = await which(engine) if self.shared else None
            except BaseException:
                await engine.dispose()
                raise
        except JournalUnavailable as error:
            self._failed(error, started)
            raise
        finally:
            self._opening = None
        self._engine = engine
        self._wrong = None
        return engine

    async def _opened(self) -> AsyncEngine:
        """Open it where it was away when it was to be opened, and see that it may be used.

        What is wrong with the configuration can show only now: it is logged once. Until it is
        mended the journal is as good as away, so that what can do without goes on, and no write
        that needs it is taken.
        """
        if self._silent is not None:
            raise JournalUnavailable(self._silent.detail, reason=self._silent.reason)
        if self._engine is None and self._closed:
            raise JournalUnavailable(reason="journal: closed")
        try:
            engine = self._engine or await self._open_again()
            self._check()
        except ConfigurationError as error:
            if self._wrong is None or self._wrong.reason != error.reason:
                _log.error("journal_refused", wrapper=self._wrapper, reason=error.reason)
            self._wrong = error
            raise JournalUnavailable(error.detail, reason=error.reason) from None
        self._wrong = None
        return engine

    async def _open_again(self) -> AsyncEngine:
        """Try once in an interval where the configuration was wrong."""
        if self._wrong is not None and monotonic() < self._again:
            raise self._wrong
        self._again = monotonic() + self.interval
        return await self._connected()

    def _failed(self, error: JournalUnavailable, started: float) -> None:
        """Let the server count as away, if the error of a call that started then means that."""
        if not self.shared or not is_away(error):
            return
        self._reachability.failed(error.reason, started)
        if not self._reachability.away or self._silent is not None or nobody_listens(error):
            return
        self._silent = error
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            if not limit.expired():
                limit.reschedule(now)
        if self._engine is not None:  # the connections it has may never answer
            self._emptying = asyncio.create_task(self._engine.dispose())

    def _ask_again(self) -> None:
        self._silent = None

    async def _is_there(self) -> bool:
        if self._emptying is not None:
            await asyncio.shield(self._emptying)
        try:
            await ask(self._settings)
        except JournalUnavailable as error:
            return not is_away(error)
        return True

    async def close(self) -> None:
        """Disconnect, after what is under way: a server that does not answer ends that."""
        self._closed = True
        await self._reachability.stop()
        if self.shared:
            await end(self._opening)
        elif self._opening is not None:  # soon over; cancelled twice, SQLite's client would hang
            await asyncio.wait({self._opening})
        if self._emptying is not None:
            await self._emptying
        self._emptying = None
        await self._end_running()
        self._silent = None
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()

    async def _end_running(self) -> None:
        if not self._running:
            return
        if not self.shared:
            await asyncio.wait(self._running)
            return
        _, late = await asyncio.wait(self._running, timeout=_CLOSING_SECONDS)
        if late and self._silent is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_CLOSING_SECONDS):
                    there = await self._is_there()
                if there:
                    _, late = await asyncio.wait(late, timeout=self._settings.timeout)
        await end(*late)

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
        task.add_done_callback(self._over)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            caller = asyncio.current_task()
            ends = caller is not None and caller.cancelling() > 0  # both may be, at a loop's end
            if task.cancelled() and not ends:
                raise JournalUnavailable(reason="journal: closed") from None
            raise

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # nobody may ask for it: its caller may be gone

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction for the time of a block, which ends with its caller."""
        engine = await self._opened()
        started = monotonic()
        try:
            with journal_errors(self._settings):
                async with self._limit() as limit, engine.begin() as connection:
                    limit.reschedule(None)
                    self._waiting.discard(limit)
                    try:
                        yield connection
                    except (OSError, asyncio.CancelledError):
                        if self.shared:  # a rollback would wait for what may never answer
                            await connection.invalidate()
                        raise
        except JournalUnavailable as error:
            self._failed(error, started)
            if is_changed(error):
                await self._changed(engine, error)
            raise

    async def _changed(self, engine: AsyncEngine, error: JournalUnavailable) -> None:
        """Let the next call open the database anew, where it is not the one it was."""
        if self._engine is not engine:  # another call was first
            return
        self._engine = None
        _log.error(
            "journal_changed",
            wrapper=self._wrapper,
            reason=error.reason,
            detail="its database is not what it was: it is opened anew, and what was pending in "
            "tables that are gone is not delivered",
        )
        await engine.dispose()

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[asyncio.Timeout]:
        """A time-out, which ends when the server is found to be away."""
        async with asyncio.timeout(self._settings.timeout if self.shared else None) as limit:
            self._waiting.add(limit)
            try:
                yield limit
            finally:
                self._waiting.discard(limit)
