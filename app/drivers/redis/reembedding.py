"""Another model for the records of a namespace: a next generation, filled, and then in use."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import replace
from secrets import token_hex
from time import monotonic
from typing import Final

from app.background import Background
from app.core.memory.records import Record
from app.core.memory.reembedding import Count, Reembedding, State
from app.drivers.redis.database import Database
from app.drivers.redis.index import Index
from app.drivers.redis.layout import KNOWLEDGE, Names, decoded, hashed, owner_of
from app.drivers.redis.meta import KEEPS_NEXT, LAYOUT, Meta
from app.drivers.redis.opening import Opening
from app.drivers.redis.server import Server
from app.drivers.redis.services import hindrance, how_far
from app.drivers.redis.switching import (
    BEGIN,
    CALL_OFF,
    HOLD,
    LIST_MISSING,
    MISSING,
    NOTE,
    PAUSE,
    RELEASE,
    RESUME,
    SWITCH,
)
from app.drivers.redis.writing import Writing
from app.embedding import Model
from app.errors import ConfigurationError, DatabaseChanged, InUse, MemoryServiceError
from app.pieces import in_pieces
from app.ranking.words import VERSION
from app.settings import RedisSettings

_MOST: Final = 1_000
"""Records, owners or keys of one step: others wait meanwhile."""
_BATCH: Final = 200
"""Records that are embedded at once, or a few more."""
_FEW: Final = 20
"""So many records may be missing at a switch: their vectors are made while writes wait."""
_PAUSE_MS: Final = 1_500
"""How long writes wait at most for one try to switch."""
_HELD_MS: Final = 4_000
"""How long a process that was killed keeps others from going on."""
_TRY_SECONDS: Final = 0.5

_ALL: Final = b"all"
_AFTER: Final = b"after:"
"""How far it is told what is missing: all, or that of the users up to one."""


class RedisReembedding(Reembedding):
    """The steps for one namespace, by connections of their own."""

    def __init__(self, settings: RedisSettings, opening: Opening) -> None:
        """`opening` has the second embedder as the configured one."""
        self._settings = settings
        self._opening = opening
        self._embedder = opening.embedders.configured
        self._server = opening.server
        self._holding = _Holding(self._server, opening.names)
        self._before: Names | None = None
        self._next: Database | None = None

    async def open(self) -> None:
        await self._holding.begin()

    async def close(self) -> None:
        await self._holding.end()
        await self._server.close()

    async def state(self) -> State:
        meta = await self._opening.meta()
        if meta is None:
            return "none"
        if meta.next is not None:
            return "filling"
        return "switched" if "replaced" in meta.unused.values() else "none"

    async def begin(self) -> None:
        ours = await self._opening.embedders.model()
        meta = await self._opening.meta()
        if meta is None or not meta.token:
            raise ConfigurationError(f"{self._namespace}: there are no records yet")
        if meta.next is None and "replaced" in meta.unused.values():
            self._check_switched(meta, ours)
            return
        if meta.next is None:
            meta = await self._begun(meta, ours)
        if meta.next is None or meta.about_next is None:
            raise DatabaseChanged(reason="it was called off meanwhile")
        other = meta.about_next.model
        if not other.is_same(ours):
            raise ConfigurationError(
                f"{self._namespace}: the records are being given the vectors of {other.name!r} "
                f"({other.dimension} dimensions): go on with that model, or call it off, before "
                f"{ours.name!r} ({ours.dimension} dimensions)"
            )
        there = self._opening.of(meta, meta.next, self._embedder, meta.token)
        await there.index.open(self._embedder.dimension)
        self._before = Names(self._settings.namespace, meta.generation)
        self._next = there
        await self._list(there, self._before)

    async def count(self) -> Count:
        there, _ = self._begun_with()
        done, missing = await how_far(there)
        return Count(done + missing, done)

    async def missing(self) -> AsyncIterator[Sequence[Record]]:
        there, _ = self._begun_with()
        cursor = b"0"
        while True:
            cursor, values = await there.run(MISSING, cursor, _BATCH)
            if values:  # those of one owner are looked up together
                yield sorted(await in_pieces(decoded, values), key=owner_of)
            if cursor == b"0":
                return

    async def keep(self, records: Sequence[Record]) -> None:
        there, _ = self._begun_with()
        await Writing(there).merge(records, {})

    async def hindrance(self) -> str | None:
        there, _ = self._begun_with()
        return await hindrance(there)

    async def switch(self) -> bool:
        there, _ = self._begun_with()
        meta, ours = await self._opening.meta(), await self._opening.embedders.model()
        if meta is not None and meta.next is None and meta.about.model.is_same(ours):
            return True  # nobody heard that it is done
        _, missing = await how_far(there)
        if missing > _FEW:
            return False
        await there.run(PAUSE, _PAUSE_MS)
        try:
            async for records in self.missing():
                await self.keep(records)
            return bool(await there.run(SWITCH, token_hex(16)))
        finally:
            with suppress(MemoryServiceError):  # it ends by itself, and with the switch
                await there.run(RESUME)

    async def end(self) -> None:
        meta = await self._opening.meta()
        if meta is not None and meta.next is not None:
            layout = LAYOUT if meta.generation == 1 else KEEPS_NEXT
            about = replace(meta.about, layout=layout)
            await self._current(meta).run(CALL_OFF, about.written())
            meta = await self._opening.meta()
        if meta is not None:
            await self._delete_unused(meta)

    @property
    def _namespace(self) -> str:
        return self._settings.called("namespace")

    def _begun_with(self) -> tuple[Database, Names]:
        """The next generation, and the names of the one in use."""
        if self._next is None or self._before is None:
            raise DatabaseChanged(reason="it was not begun")
        return self._next, self._before

    def _current(self, meta: Meta) -> Database:
        """The generation in use, for scripts that have no vectors."""
        return self._opening.of(meta, meta.generation, self._embedder, meta.token)

    async def _begun(self, meta: Meta, ours: Model) -> Meta:
        """What is there once another generation began."""
        about = meta.about
        if about.model.is_same(ours):
            raise ConfigurationError(
                f"{self._namespace}: the records have the vectors of {ours.name!r} already"
            )
        if (about.language, about.words) != (self._opening.language, VERSION):
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are {about.language}, "
                f"version {about.words}, not {self._opening.language}, version {VERSION}"
            )
        await self._delete_unused(meta)  # what one that was called off has left
        two = about.of(about.model).written(), about.of(ours).written()
        await self._current(meta).run(BEGIN, token_hex(16), *two)
        found = await self._opening.meta()
        if found is None:
            raise DatabaseChanged(reason="it was emptied meanwhile")
        return found

    def _check_switched(self, meta: Meta, ours: Model) -> None:
        """Refuse another model than the one in use as long as the old vectors are there."""
        current = meta.about.model
        if not current.is_same(ours):
            raise ConfigurationError(
                f"{self._namespace}: the records have the vectors of {current.name!r} by now, and "
                "the old ones are still there: go on with that model first"
            )

    async def _list(self, there: Database, before: Names) -> None:
        """Name all that is missing, unless that was done: from the beginning on, scripts name what
        they change.

        Where it was killed, it goes on behind the last users of whom it was done.
        """
        ((listed,),) = await there.ask(("HMGET", there.names.of("meta"), "listed"))
        if listed == _ALL:
            return
        if listed is None:
            await self._list_owners(there, [KNOWLEDGE])
            first = b"-"
        else:
            first = b"(" + listed[len(_AFTER) :]
        while True:
            users: list[bytes]
            part = ("BYLEX", "LIMIT", 0, _MOST)
            [users] = await there.ask(("ZRANGE", before.of("users"), first, "+", *part))
            names = [hashed(user.decode("utf-8", "surrogatepass")) for user in users]
            await self._list_owners(there, names)
            if len(users) < _MOST:
                await there.run(NOTE, "listed", _ALL)
                return
            await there.run(NOTE, "listed", _AFTER + users[-1])
            first = b"(" + users[-1]

    async def _list_owners(self, there: Database, owners: list[str]) -> None:
        first = b"-"
        while owners:
            done, rest = await there.run(LIST_MISSING, _MOST, first, *owners)
            owners, first = owners[done:], rest or b"-"

    async def _delete_unused(self, meta: Meta) -> None:
        """Delete what is of no generation in use, in pieces: first its index, so that no search
        finds a part."""
        for number in meta.unused:
            names = Names(self._settings.namespace, number)
            await Index(self._server, names, self._settings).drop()
            cursor = b"0"
            while True:
                scan = ("SCAN", cursor, "MATCH", f"{names.root}:*", "COUNT", _MOST)
                [(cursor, keys)] = await self._server.ask(scan)
                own = [key for key in keys if names.has(key.decode())]
                if own:
                    await self._server.ask(("UNLINK", *own))
                if cursor == b"0":
                    break
            await self._server.ask(("HDEL", names.meta, f"unused:{number}"))


class _Holding(Background):
    """Being the only process that brings a namespace another model."""

    failed = "reembedding_not_held"
    every = _HELD_MS / 3_000

    def __init__(self, server: Server, names: Names) -> None:
        self._server = server
        self._names = names
        self._holder = token_hex(16)

    async def work(self) -> None:
        await self._hold()

    async def begin(self) -> None:
        """Be it from now on. Raises `InUse` where another goes on being it.

        One that was killed is it for some seconds more, which this waits.
        """
        end = monotonic() + _HELD_MS / 1_000 + _TRY_SECONDS
        while not await self._hold():
            if monotonic() > end:
                raise InUse("another process brings these records another model at this moment")
            await asyncio.sleep(_TRY_SECONDS)
        self.start()

    async def end(self) -> None:
        """Be it no more."""
        await self.stop()
        with suppress(MemoryServiceError):  # it ends by itself
            await self._server.run(RELEASE, self._names.meta, self._holder)

    async def _hold(self) -> bool:
        return bool(await self._server.run(HOLD, self._names.meta, self._holder, _HELD_MS))
