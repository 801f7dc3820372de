"""Recalls answered again without asking: in this process, or in Redis for all replicas."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Self

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.records import Memory, Recalled
from app.errors import ConfigurationError, MemoryServiceError
from app.flights import Flights
from app.settings import CacheSettings
from app.wrappers.base import Call, WrappingDriver
from app.wrappers.cache.answer import pack, unpack
from app.wrappers.cache.freshness import freshness
from app.wrappers.cache.identity import Identity, configured
from app.wrappers.cache.in_process import InProcessStore
from app.wrappers.cache.store import ALL, KNOWLEDGE, CacheStore, Write, user_scope

_KEPT = frozenset({"recall", "recall_global_knowledge"})
"""The verbs whose answers are kept."""

_MOST_SCOPES = 200
"""A write to more users than this counts as one to everybody."""


class CachedDriver(WrappingDriver):
    """Remembers what `recall` and `recall_global_knowledge` of another driver answered.

    After a user's write nothing older is served to anybody who recalls for that user; likewise for
    knowledge. What is written to the backend by others is seen when the answers are too old.
    """

    name = "cached"

    def __init__(self, inner: BaseMemoryDriver, store: CacheStore, configured: str) -> None:
        """Cached drivers that share a store share answers if they share `configured` and the
        identity of what they hold.
        """
        super().__init__((inner,))
        self._store = store
        self._identity = Identity(inner, configured)
        self._flights: Flights[tuple[Recalled[Any], bytes | None]] = Flights()
        self._ending: set[asyncio.Task[None]] = set()
        self._hits = 0
        self._misses = 0

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        store = new_store(context.settings.cache)
        if store.shared:
            context.embedder.share_queries(store)
        return cls(context.inner[0], store, configured(context))

    async def open(self) -> None:
        await super().open()
        await self._store.open()

    async def close(self) -> None:
        if self._ending:
            await asyncio.wait(self._ending)
        try:
            await self._store.close()
        finally:
            await super().close()

    async def mended(self, driver: str) -> None:
        write = Write.to((ALL,))
        try:
            await self._store.begin(write)
        finally:
            await self._store.end(write, certain=True)

    async def health_check(self) -> DriverHealth:
        inner, trouble = await asyncio.gather(self.inner[0].health_check(), self._store.check())
        facts = {"store": self._store.kind, "hits": self._hits, "misses": self._misses}
        degraded = trouble is not None and inner.status == "ok"
        return DriverHealth(
            driver=self.name,
            status="degraded" if degraded else inner.status,
            detail=inner.detail if inner.status != "ok" else trouble,
            facts={**facts, **self._store.facts()},
            drivers=(inner,),
        )

    async def _read(self, call: Call) -> Any:
        if call.verb not in _KEPT:
            return await call.on(self.inner[0])
        key = self._key(call)
        if key is None:
            return await self._ask(call)
        wanted = freshness.get()
        if wanted == "unkept":
            return await self._ask(call)
        found = await self._store.find(key, _scope(call))
        if wanted == "fresh":
            return (await self._compute(call, key, found.stamp))[0]
        if found.value is not None:
            known = unpack(found.value, cached=True)
            if known is not None:
                self._hits += 1
                return known
        self._misses += 1
        if found.stamp is None:
            return await self._ask(call)
        return await self._share(call, key, found.stamp)

    async def _share(self, call: Call, key: str, stamp: bytes) -> Recalled[Any]:
        """Compute, or wait for who computes the same; only with the same stamp is it the same."""
        flight = key, stamp
        leads = not self._flights.runs(flight)
        answer, packed = await self._flights.join(flight, lambda: self._compute(call, key, stamp))
        if leads:
            return answer
        own = None if packed is None else unpack(packed, cached=False)
        return own if own is not None else await self._ask(call)

    async def _compute(
        self, call: Call, key: str, stamp: bytes | None
    ) -> tuple[Recalled[Any], bytes | None]:
        """`key` is the call's from before: where it is another one after it, nothing is kept."""
        answer = await self._ask(call)
        moved = self._key(call) != key
        packed = None if moved or answer.degraded or answer.cached else pack(answer)
        if packed is not None and stamp is not None:
            await self._store.keep(key, stamp, packed)
        return answer, packed

    async def _ask(self, call: Call) -> Recalled[Any]:
        answer = await call.on(self.inner[0])
        if isinstance(answer, Recalled):
            return answer
        return Recalled(answer, driver=self.inner[0].name)

    async def _write(self, call: Call) -> Any:
        write = Write.to(_scopes(call))
        certain = False
        try:
            await self._store.begin(write)
            answer = await call.on(self.inner[0])
            certain = True
        except MemoryServiceError as error:
            certain = not error.uncertain
            raise
        finally:
            # Whoever is cancelled leaves, and the write is ended all the same.
            ending = asyncio.create_task(self._store.end(write, certain=certain))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)
        return answer

    def _key(self, call: Call) -> str | None:
        """None while the answer can't be kept."""
        identity = self._identity.now()
        if identity is None:
            return None
        try:
            text = json.dumps(
                [identity, call.verb, call.arguments], ensure_ascii=False, sort_keys=True
            )
        except (TypeError, ValueError, RecursionError):  # the driver shall say what is wrong
            return None
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def new_store(settings: CacheSettings) -> CacheStore:
    """The configured store; raises `ConfigurationError` where Redis's client is not installed."""
    if settings.url is None:
        return InProcessStore(settings)
    try:
        from app.wrappers.cache.redis import RedisStore
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"{settings.called('url')} needs {error.name}: "
            "pip install 'memory-driver-service[cache]'"
        ) from error
    return RedisStore(settings)


def _scope(call: Call) -> str:
    return user_scope(call.arguments["user_id"]) if call.verb == "recall" else KNOWLEDGE


def _scopes(call: Call) -> Iterable[str]:
    """All that a write can change."""
    arguments = call.arguments
    match call.verb:
        case "store_global_knowledge" | "store_knowledge_many" | "delete_knowledge":
            scopes = {KNOWLEDGE}
        case "store_many":
            scopes = {user_scope(memory.user_id) for memory in arguments["memories"]}
        case "import_records":
            scopes = {
                user_scope(record.user_id) if isinstance(record, Memory) else KNOWLEDGE
                for record in arguments["records"]
            }
        case "store" | "delete" | "delete_user" if arguments["user_id"] is not None:
            scopes = {user_scope(arguments["user_id"])}
        case _:
            scopes = {ALL}
    return sorted(scopes) if len(scopes) <= _MOST_SCOPES else (ALL,)
