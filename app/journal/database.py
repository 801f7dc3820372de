"""The journal's database: it is opened when it is needed, and no transaction is cut off.

Where the server does not answer, one call waits for the time-out; later calls fail at once, until
the probe reaches the server. Where nobody listens every call tries, since it fails at once anyway.
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
"""Seconds between two looks of a dispatcher for what other processes left pending."""
_CLOSING_SECONDS = 1.0
"""Seconds that running transactions get when it is closed; more where the server answers."""

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
        """`prepare` runs in each database that is opened, `check` before each use.

        `check` raises `ConfigurationError` where the database must not be used. It does no I/O: it
        may learn of that only after the start.
        """
        self._settings = settings
        self._wrapper = wrapper
        self.interval = INTERVAL
        self._prepare = prepare
        self._check = check
        self.cluster: str | None = None
        """The PostgreSQL cluster that it is in; None where that is not known."""
        self._engine: AsyncEngine | None = None
        self._opening: asyncio.Task[AsyncEngine] | None = None
        """The attempt to open it, which all callers share."""
        self._closed = False
        self._wrong: ConfigurationError | None = None
        """Why the database is not used, although it is there."""
        self._again = 0.0
        """When to try again after `_wrong`, by the monotonic clock."""
        self._running: set[asyncio.Task[Any]] = set()
        self._reachability = Reachability(
            "journal",
            wrapper,
            probe=self._is_there,
            limit=2 * settings.timeout,
            on_back=self._ask_again,
        )
        self._silent: JournalUnavailable | None = None
        """The error that every call gets while the server does not answer; else None."""
        self._emptying: asyncio.Task[None] | None = None
        """Drops the connections to a server that is away; to cancel it would log errors."""
        self._waiting: set[asyncio.Timeout] = set()
        """The time-outs of the calls that wait for a connection."""

    @property
    def shared(self) -> bool:
        """Whether other processes share the database."""
        return self._settings.url is not None

    @property
    def now(self) -> Any:
        """Seconds since the epoch, by the server's clock; for a file, by this process's."""
        return func.extract("epoch", func.clock_timestamp()) if self.shared else time()

    async def open(self) -> None:
        """Connect and make what is missing; twice is harmless.

        Raises `ConfigurationError`, or `JournalUnavailable`: then the database opens itself when
        the server is there. A server that is reached later and refuses the connection counts as
        away.
        """
        self._closed = False
        self._reachability.start()
        if self._engine is None:
            try:
                await self._connected()
            except JournalUnavailable as error:
                raise refused(self._settings, error) or error from error.__cause__

    async def _connected(self) -> AsyncEngine:
        """Connect, in one attempt for all callers, which a cancelled caller does not cancel."""
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
        """The engine, opened now if it is not open yet; raises `JournalUnavailable`.

        That the configuration is wrong may show only now: it is logged once. Until it is mended the
        journal counts as away: reads that can do without it go on, and writes that need it fail.
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
        """Connect; while the configuration is wrong, once an interval at most."""
        if self._wrong is not None and monotonic() < self._again:
            raise self._wrong
        self._again = monotonic() + self.interval
        return await self._connected()

    def _failed(self, error: JournalUnavailable, started: float) -> None:
        """Let the server count as away, if the error means that.

        `started`: when the call that failed began, by the monotonic clock.
        """
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
        """Disconnect when the running transactions have ended.

        Those that wait for a server that does not answer are cancelled.
        """
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
        """The rows of a query."""

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
        """Do the work in a transaction, which is finished even where its caller is cancelled.

        `then` is called when the transaction has ended. To cancel a statement would cost a file its
        only connection.
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
        """A transaction for the time of a block; it is cancelled with its caller."""
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
        """Let the next call open the database anew: it is not the one that was opened."""
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
        """A time-out, which expires early when the server is found to be away."""
        async with asyncio.timeout(self._settings.timeout if self.shared else None) as limit:
            self._waiting.add(limit)
            try:
                yield limit
            finally:
                self._waiting.discard(limit)
