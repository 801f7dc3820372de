"""The index of the knowledge's windows: made, checked, and searched exactly."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any

from redis.exceptions import RedisError

from app.drivers.redis.errors import backend_errors
from app.drivers.redis.layout import Names
from app.drivers.redis.server import Command, Server
from app.embedding import Vector
from app.errors import (
    ConfigurationError,
    DatabaseChanged,
    DriverError,
    DriverTimeout,
    DriverUnavailable,
    MemoryServiceError,
)
from app.settings import RedisSettings

_PAUSE_SECONDS = 0.05
SEARCH_SHARE = 0.8
"""Of the time limit of a call, what Redis has for a search: so it tells that it ran out of time."""
_WHOLE = ("fail", "return_strict")
"""What a search may do that takes too long: anything but a part of an answer."""
_TIMEOUT = "search-on-timeout"
"""The setting of Redis 8; before, the module had its own, ON_TIMEOUT."""


class Index:
    """A flat index: a search compares the question with every window that the filter lets through.

    Redis chooses between that and an approximate way; `ADHOC_BF` leaves it no choice.
    """

    def __init__(self, server: Server, names: Names, settings: RedisSettings) -> None:
        self._server = server
        self._name = names.index
        self._prefix = names.of("i", "")
        self._settings = settings
        self._on_cluster = False
        self._read_all = -1
        """What `Server.connected` was when the index was seen whole."""

    async def open(self, dimension: int) -> None:
        """Make the index or check it, and wait until Redis has read all that is there."""
        await self._configure()
        try:
            with suppress(DriverError):  # that there is one: its state tells
                await self._server.ask(self._made(dimension))
            state = await self.state()
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{self._settings.called('url')}: that Redis has no query engine: use Redis 8, or "
                "load the search module"
            ) from error
        vector: dict[str, str] = next(
            (each for each in state["attributes"] if each.get("type") == "VECTOR"), {}
        )
        found = (vector.get("algorithm"), vector.get("data_type"), int(vector.get("dim", 0)))
        if found != ("FLAT", "FLOAT32", dimension):
            raise ConfigurationError(
                f"{self._settings.called('namespace')}: the index {self._name} is not the "
                "service's: drop it, or choose another namespace"
            )
        await self._whole()

    async def drop(self) -> None:
        """Drop the index, and none of the keys; without one it does nothing."""
        with suppress(DatabaseChanged):  # there is none
            await self._server.ask(("FT.DROPINDEX", self._name))

    async def _whole(self) -> None:
        """Wait until Redis has read all that is there, as it does for a new index and at a start.

        Raises `DriverUnavailable` where that takes longer than an answer may.
        """
        end = monotonic() + self._settings.timeout
        while True:
            connected = self._server.connected
            state = await self.state()
            if not int(state.get("indexing", 0)):
                break
            if monotonic() > end:
                raise DriverUnavailable(reason="Redis is still indexing the knowledge")
            await asyncio.sleep(_PAUSE_SECONDS)
        self._read_all = connected

    async def state(self) -> dict[str, Any]:
        """What Redis tells of the index, by name."""
        [state] = await self._server.ask(("FT.INFO", self._name))
        found = {_text(name): value for name, value in _pairs(state).items()}
        found["attributes"] = [
            {_text(name): _text(value) for name, value in _pairs(each).items()}
            for each in found.get("attributes", [])
        ]
        return found

    async def fails_on_timeout(self) -> bool:
        """Whether a search that takes too long fails; sees to it, where the account may.

        A server that was started again has forgotten what it was told.
        """
        if await self._on_timeout() not in _WHOLE:
            await self._configure()
        return await self._on_timeout() in _WHOLE

    async def _on_timeout(self) -> str | None:
        """What a search does that takes too long: `fail`, or another; None: Redis does not tell."""
        for command in (("CONFIG", "GET", _TIMEOUT), ("FT.CONFIG", "GET", "ON_TIMEOUT")):
            with suppress(MemoryServiceError):
                [answer] = await self._server.ask(command)
                for value in _pairs(answer).values():
                    return _text(value).lower()
        return None

    async def _configure(self) -> None:
        """Let a search that takes too long fail, where that may be said; health tells if not."""
        for command in (
            ("CONFIG", "SET", _TIMEOUT, "fail"),
            ("FT.CONFIG", "SET", "ON_TIMEOUT", "FAIL"),
        ):
            with suppress(MemoryServiceError):
                await self._server.ask(command)
        with suppress(MemoryServiceError):
            [told] = await self._server.ask(("INFO", "cluster"))
            self._on_cluster = b"cluster_enabled:1" in told

    def _made(self, dimension: int) -> Command:
        vector = ("VECTOR", "FLAT", 6, "TYPE", "FLOAT32", "DIM", dimension)
        return (
            *("FT.CREATE", self._name, "ON", "HASH", "PREFIX", 1, self._prefix, "STOPWORDS", 0),
            *("SCHEMA", "k", "TAG", "CASESENSITIVE", "c", "TAG", "CASESENSITIVE"),
            *("d", "TAG", "CASESENSITIVE", "x", "NUMERIC"),
            *("v", *vector, "DISTANCE_METRIC", "COSINE"),
        )

    async def nearest(self, vector: Vector, clauses: str, count: int) -> list[tuple[bytes, float]]:
        """The ids of up to `count` windows that the clauses let through, with their distance.

        The nearest come first; the distance is 1 - cosine. Raises `DriverTimeout` where Redis
        did not look at all of them.
        """
        nearest = f"[KNN {count} @v $vector HYBRID_POLICY ADHOC_BF AS distance]"
        milliseconds = round(SEARCH_SHARE * self._settings.timeout * 1_000)
        search: Command = (
            *("FT.SEARCH", self._name, f"({clauses})=>{nearest}"),
            *("PARAMS", 2, "vector", vector.astype("<f4").tobytes()),
            *("SORTBY", "distance", "LIMIT", 0, count, "RETURN", 1, "distance"),
            *(
                "TIMEOUT",
                max(1, milliseconds),
                "DIALECT",
                2,
            ),
        )
        while True:
            if self._read_all != self._server.connected:
                await self._whole()
            answer = await self._answer(search)
            if self._read_all == self._server.connected:  # else it may have been started anew
                return self._windows(answer)

    async def _answer(self, search: Command) -> Any:
        # In a transaction Redis answers on its main thread, which has seen every write.
        if self._on_cluster:
            [answer] = await self._server.ask(search)
        else:
            *_, [answer] = await self._server.ask(("MULTI",), search, ("EXEC",))
        if isinstance(answer, RedisError):
            with backend_errors():
                raise answer
        return answer

    def _windows(self, answer: Any) -> list[tuple[bytes, float]]:
        if not isinstance(answer, Mapping) or b"results" not in answer:
            raise DriverError(reason="a search was answered in an unknown form")
        if answer.get(b"warning"):
            raise DriverTimeout(reason="a search was answered in part")
        found: list[tuple[bytes, float]] = []
        first = len(self._prefix)
        for each in answer[b"results"]:
            fields = each.get(b"extra_attributes") or {}
            if b"distance" in fields:  # else it was deleted meanwhile
                one = bytes.fromhex(each[b"id"][first:].partition(b":")[0].decode())
                found.append((one, float(fields[b"distance"])))
        return found


def _pairs(answer: Any) -> dict[Any, Any]:
    """An answer of names and values, which Redis sends as a map or one after the other."""
    if isinstance(answer, Mapping):
        return dict(answer)
    if answer and isinstance(answer[0], list):  # FT.CONFIG: pairs
        return {each[0]: each[-1] for each in answer}
    return dict(zip(answer[::2], answer[1::2], strict=False))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
