"""The way to Redis: connections that are counted, and one time limit for each exchange."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from hashlib import sha1
from math import inf
from time import monotonic
from typing import Any, TypeAlias

from redis.asyncio.connection import AbstractConnection, SSLConnection
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import NoScriptError, RedisError

from app.drivers.redis.connecting import pool_of
from app.drivers.redis.errors import backend_errors
from app.errors import (
    ConfigurationError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
    PoolExhausted,
)
from app.settings import RedisSettings

Command: TypeAlias = tuple[str | bytes | int | float, ...]


class Script:
    """A Lua script, which Redis knows by its digest once it has seen it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Server:
    """One Redis: exchanges of commands and answers, each on a connection of its own meanwhile."""

    def __init__(self, settings: RedisSettings) -> None:
        self._settings = settings
        self._pool = pool_of(settings)
        self._slots = asyncio.Semaphore(settings.pool_size)
        self._idle: list[AbstractConnection] = []
        self.connected = 0
        """How many connections were made: while it is the same, no server was started again."""
        self._answered = -inf
        """When Redis last answered, by the monotonic clock."""

    def is_busy(self, seconds: float) -> bool:
        """Whether every connection is in use, and Redis has answered within so many seconds."""
        return self._slots.locked() and monotonic() - self._answered < seconds

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands that are sent together, in their order.

        The first that Redis refuses is raised. Raises `PoolExhausted` where no connection becomes
        free in time, `DriverTimeout`, `DriverUnavailable` where Redis can't be reached, and
        `ConnectionLost` where it was lost once the commands were sent.
        """
        end = asyncio.get_running_loop().time() + self._settings.timeout
        try:
            async with asyncio.timeout_at(end):
                await self._slots.acquire()
        except TimeoutError:
            raise PoolExhausted from None
        try:
            return await self._exchange(commands, end)
        except (DriverTimeout, DriverUnavailable):
            await self._leave()  # the next may find another primary
            raise
        finally:
            self._slots.release()

    async def run(self, script: Script, key: str, *arguments: str | bytes | int) -> Any:
        """What the script answers, given one key."""
        try:
            [answer] = await self.ask(("EVALSHA", script.digest, 1, key, *arguments))
        except MemoryServiceError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
            [answer] = await self.ask(("EVAL", script.text, 1, key, *arguments))
        return answer

    async def close(self) -> None:
        """Disconnect, from Sentinels, too; the next exchange connects again."""
        await self._leave()
        if isinstance(self._pool, SentinelConnectionPool):
            with suppress(RedisError, OSError):
                await self._pool.sentinel_manager.aclose()

    async def _exchange(self, commands: Sequence[Command], end: float) -> list[Any]:
        async with self._connection(end) as connection:
            packed = _packed(commands)
            with backend_errors():
                async with asyncio.timeout_at(end):
                    await connection.send_packed_command(packed)
                    answers = [await connection.read_response() for _ in commands]
            self._answered = monotonic()
            return answers

    @asynccontextmanager
    async def _connection(self, end: float) -> AsyncIterator[AbstractConnection]:
        """One that is connected. What fails or is cancelled on it disconnects it.

        Answers that nobody read would be taken for those to the next commands.
        """
        connection = await self._ready(end)
        try:
            yield connection
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)

    async def _ready(self, end: float) -> AbstractConnection:
        connection = await self._still_open() or self._made()
        with backend_errors(sent=False):
            try:
                async with asyncio.timeout_at(end):
                    await connection.connect()  # type: ignore[no-untyped-call]  # not annotated there
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
        return connection

    async def _still_open(self) -> AbstractConnection | None:
        """One that is idle, and that Redis has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            with suppress(RedisError, OSError):
                if connection.is_connected and not await connection.can_read():
                    return connection
            await connection.disconnect(nowait=True)
        return None

    async def _leave(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            with suppress(RedisError, OSError):
                await connection.disconnect(nowait=True)

    def _made(self) -> AbstractConnection:
        self.connected += 1
        made: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # not annotated there
        if isinstance(made, SSLConnection):
            try:
                made.ssl_context.get()
            except (OSError, TypeError, ValueError) as error:
                raise ConfigurationError(
                    f"{self._settings.called('url')}: a file of its ssl_ options can't be read "
                    f"({type(error).__name__})"
                ) from error
        return made


def _packed(commands: Sequence[Command]) -> bytes:
    """The commands as Redis reads them. redis-py copies each value several times on the way."""
    parts: list[bytes] = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for value in command:
            data = value if isinstance(value, bytes) else str(value).encode()
            parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)
