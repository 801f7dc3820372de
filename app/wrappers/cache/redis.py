"""Answers kept in Redis, for all replicas of the service."""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ConnectionError as NotConnected
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from app.errors import ConfigurationError
from app.reachability import Reachability
from app.settings import CacheSettings
from app.wrappers.cache.store import ALL, UNCERTAIN_SECONDS, Answer, CacheStore, Found, Write

Command: TypeAlias = tuple[str | bytes | int | float, ...]

_PREFIX = "memory-cache:"
ANSWER_SECONDS = 0.5
"""How long to wait for Redis, then without it: asking the driver takes less."""
_CONNECTIONS = 32
_WRITE_SECONDS = 600.0
"""How long a write may take: the mark of a writer that died is gone after that."""
_GENERATION_MS = 86_400_000
_VECTOR_MS = 86_400_000
_MOST_OWED = 1_000
_SCANNED_AT_ONCE = 1_000
_ERRORS = (RedisError, OSError, TimeoutError)
"""All that can come of asking Redis."""


class RedisStore(CacheStore):
    """One Redis, or Valkey, that is a primary.

    When it can't be reached it is left alone until the probe reaches it, and has told it of all
    writes that it does not know of.
    """

    kind = "redis"
    shared = True

    def __init__(self, settings: CacheSettings) -> None:
        assert settings.url is not None  # noqa: S101 - the caller looked
        self._ttl_ms = max(1, round(settings.ttl * 1_000))
        self._generation_ms = max(2 * self._ttl_ms, _GENERATION_MS)
        self._timeout = ANSWER_SECONDS
        try:
            self._pool = ConnectionPool.from_url(
                settings.url.get_secret_value(),
                redis_connect_func=self._identify,
                protocol=2,
                driver_info=None,
                socket_timeout=None,  # `_ask` has one for all of an exchange
                socket_connect_timeout=None,
            )
            self._connection()
        except (RedisError, AttributeError, TypeError, ValueError):
            raise ConfigurationError(f"{settings.called('url')}: is not a URL of Redis") from None
        self._slots = asyncio.Semaphore(_CONNECTIONS)
        self._idle: list[AbstractConnection] = []
        self._servers: WeakKeyDictionary[AbstractConnection, bytes] = WeakKeyDictionary()
        self._owed: dict[tuple[str, str], bool] = {}
        """Writes, by scope and token, whose end Redis does not know of; whether it is certain."""
        self._reachability = Reachability("redis", settings.called("url"), probe=self._is_there)

    async def find(self, key: str, scope: str) -> Found:
        found = await self._look(key, scope)
        if found is None:  # a generation is missing: the first time, or Redis ran out of space
            generations = (_generation_key(each) for each in (ALL, scope))
            commands: list[Command] = [
                ("SET", name, secrets.token_bytes(12), "NX", "PX", self._generation_ms)
                for name in generations
            ]
            if await self._ask(commands) is not None:
                found = await self._look(key, scope)
        return found or Found(None)

    async def _look(self, key: str, scope: str) -> Found | None:
        """None where a generation is missing."""
        answer = await self._ask(
            [
                ("GET", _value_key(key)),
                # Before the marks: a writer marks first, and renews the generation then.
                ("MGET", _generation_key(ALL), _generation_key(scope)),
                ("ZCOUNT", _marks_key(ALL), time.time(), "+inf"),
                ("ZCOUNT", _marks_key(scope), time.time(), "+inf"),
            ]
        )
        if answer is None:
            return Found(None)
        server, (kept, generations, *marks) = answer
        if any(marks):
            return Found(None)
        stamp = _stamp(server, generations)
        if stamp is None:
            return None
        fresh = kept is not None and kept[: len(stamp)] == stamp
        return Found(stamp, kept[len(stamp) :] if fresh else None)

    async def keep(self, key: str, scope: str, answer: Answer) -> None:
        """A write that began meanwhile has renewed a generation: then the value is taken away.

        One that begins later finds it in the list of the scope's values.
        """
        now, ttl_ms = time.time(), self._ttl_ms
        if answer.seconds * 1_000 < ttl_ms:
            ttl_ms = max(1, round(answer.seconds * 1_000))
        name, listed = _value_key(key), _values_key(scope)
        told = await self._ask(
            [
                ("ZADD", listed, now + ttl_ms / 1_000, name),
                ("ZREMRANGEBYSCORE", listed, "-inf", f"({now}"),
                ("PEXPIRE", listed, 2 * self._ttl_ms),
                ("SET", name, answer.stamp + answer.value, "PX", ttl_ms),
                ("MGET", _generation_key(ALL), _generation_key(scope)),
            ]
        )
        if told is not None and answer.stamp != _stamp(told[0], told[1][-1]):
            await self._ask([("UNLINK", name)])

    async def find_vector(self, key: str) -> bytes | None:
        answer = await self._ask([("GET", _vector_key(key))])
        return answer[1][0] if answer is not None else None

    async def keep_vector(self, key: str, value: bytes) -> None:
        await self._ask([("SET", _vector_key(key), value, "PX", _VECTOR_MS)])

    async def begin(self, write: Write) -> None:
        await self._ask([c for scope in write.scopes for c in self._begun(scope, write.token)])

    async def end(self, write: Write, *, certain: bool) -> None:
        owed = {(scope, write.token): certain for scope in write.scopes}
        self._owed |= owed
        if self._reachability.away:
            if len(self._owed) > _MOST_OWED:
                self._owed = {(ALL, write.token): False}
            return
        try:
            await self._settle(owed)
        except _ERRORS as error:
            self._failed(error)

    async def check(self) -> str | None:
        await self._ask([("PING",)])
        away = self._reachability.away
        return "Redis can't be reached: answers are computed" if away else None

    async def open(self) -> None:
        self._reachability.start()
        if self._owed:
            self._reachability.lost("it was away when it was closed")
        await self.check()

    async def close(self) -> None:
        await self._reachability.stop()
        with suppress(*_ERRORS):
            await self._settle(dict(self._owed))
        idle, self._idle = self._idle, []
        with suppress(*_ERRORS):
            async with asyncio.timeout(self._timeout):
                await asyncio.gather(*(connection.disconnect() for connection in idle))

    def _begun(self, scope: str, token: str) -> Iterator[Command]:
        now = time.time()
        yield "ZREMRANGEBYSCORE", _marks_key(scope), "-inf", now
        yield from self._marked(scope, token, now + _WRITE_SECONDS)
        yield self._renewed(scope)

    def _ended(self, scope: str, token: str, certain: bool) -> Iterator[Command]:
        yield self._renewed(scope)
        if certain:
            yield "ZREM", _marks_key(scope), token
        else:
            yield from self._marked(scope, token, time.time() + UNCERTAIN_SECONDS)

    def _marked(self, scope: str, token: str, until: float) -> Iterator[Command]:
        yield "ZADD", _marks_key(scope), until, token
        yield "EXPIRE", _marks_key(scope), round(2 * _WRITE_SECONDS)

    def _renewed(self, scope: str) -> Command:
        return "SET", _generation_key(scope), secrets.token_bytes(12), "PX", self._generation_ms

    async def _settle(self, owed: Mapping[tuple[str, str], bool]) -> None:
        """Tell Redis of ends of writes that it does not know of; raises one of `_ERRORS`."""
        commands = [c for write, certain in owed.items() for c in self._ended(*write, certain)]
        if commands:
            await self._exchange(commands)
            await self._drop({scope for scope, _ in owed})
        for each in owed:
            self._owed.pop(each, None)

    async def _drop(self, scopes: Collection[str]) -> None:
        """Take away what nobody can find any more."""
        lists = [_values_key(scope) for scope in scopes]
        _, found = await self._exchange([("ZRANGE", each, 0, -1) for each in lists])
        gone = [name for names in found for name in names]
        if gone:
            await self._exchange([("UNLINK", *lists, *gone)])
        if ALL in scopes:
            await self._drop_all()

    async def _drop_all(self) -> None:
        place: bytes | int = 0
        while True:
            scan = ("SCAN", place, "MATCH", f"{_value_key('*')}", "COUNT", _SCANNED_AT_ONCE)
            _, [[place, names]] = await self._exchange([scan])
            if names:
                await self._exchange([("UNLINK", *names)])
            if int(place) == 0:
                return

    async def _ask(self, commands: list[Command]) -> tuple[bytes, list[Any]] | None:
        """The server's identity and its replies; None where it can't be reached."""
        if self._reachability.away:
            return None
        try:
            return await self._exchange(commands)
        except _ERRORS as error:
            self._failed(error)
            return None

    def _failed(self, error: BaseException) -> None:
        # Not the error's own words: they name the server.
        self._reachability.failed(type(error).__name__)

    async def _is_there(self) -> bool:
        """Whether it takes writes, and knows now of all that it was not told."""
        try:
            # A Redis that has no space left for a generation is of no use.
            await self._exchange([("SET", f"{_PREFIX}probe", b"", "PX", 1)])
            while self._owed:
                await self._settle(dict(self._owed))
        except _ERRORS:
            return False
        return True

    async def _exchange(self, commands: list[Command]) -> tuple[bytes, list[Any]]:
        async with asyncio.timeout(self._timeout), self._slots:
            try:
                return await self._send(commands)
            except NotConnected:  # an idle connection that the server has closed meanwhile
                idle, self._idle = self._idle, []
                for connection in idle:
                    await connection.disconnect(nowait=True)
                return await self._send(commands)

    async def _send(self, commands: list[Command]) -> tuple[bytes, list[Any]]:
        connection = self._idle.pop() if self._idle else self._connection()
        try:
            await connection.send_packed_command(connection.pack_commands(commands))
            replies = [await connection.read_response() for _ in commands]
        except BaseException:
            # Replies that nobody read would be taken for the next exchange's.
            await connection.disconnect(nowait=True)
            raise
        self._idle.append(connection)
        return self._servers[connection], replies

    def _connection(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # not annotated there
        return connection

    async def _identify(self, connection: AbstractConnection) -> None:
        """Take down which life of which server a connection leads to.

        A server that was restored from a snapshot has generations and values that are no longer
        true, together; so has a replica that was promoted.
        """
        await connection.on_connect()
        await connection.send_command("INFO")
        lines = bytes(await connection.read_response()).splitlines()
        info = dict(line.split(b":", 1) for line in lines if b":" in line)
        if info.get(b"role") != b"master":
            raise ReadOnlyError("not a primary")
        try:
            self._servers[connection] = info[b"run_id"] + info[b"master_replid"]
        except KeyError:
            raise ResponseError("the server does not tell its run_id") from None


def _stamp(server: bytes, generations: Sequence[bytes | None]) -> bytes | None:
    """None where a generation is missing."""
    known = [each for each in generations if each is not None]
    if len(known) < len(generations):
        return None
    return hashlib.sha256(b" ".join((server, *known))).digest()


def _value_key(key: str) -> str:
    return f"{_PREFIX}value:{key}"


def _values_key(scope: str) -> str:
    """Where the keys of the scope's values are, each until its value is gone."""
    return f"{_PREFIX}values:{_hashed(scope)}"


def _vector_key(key: str) -> str:
    return f"{_PREFIX}vector:{key}"


def _generation_key(scope: str) -> str:
    return f"{_PREFIX}generation:{_hashed(scope)}"


def _marks_key(scope: str) -> str:
    return f"{_PREFIX}writing:{_hashed(scope)}"


def _hashed(scope: str) -> str:
    return hashlib.sha256(scope.encode("utf-8", "surrogatepass")).hexdigest()
