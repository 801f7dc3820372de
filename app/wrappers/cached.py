"""Keeps answers of recalls: in this process, or in Redis for all replicas."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from decimal import Decimal
from math import inf
from typing import Any, Generic, Self, TypeVar, cast

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.derived import Derived
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Recalled,
    Record,
    UserPage,
    is_alive,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.embedding import Model
from app.errors import ConfigurationError, MemoryServiceError
from app.settings import CacheSettings, Limits
from app.single_flight import SingleFlight
from app.wrappers.base import WrappingDriver
from app.wrappers.cache.answer import pack, unpack
from app.wrappers.cache.freshness import freshness
from app.wrappers.cache.identity import Identity, configured
from app.wrappers.cache.in_process import InProcessStore
from app.wrappers.cache.store import ALL, KNOWLEDGE, Answer, CacheStore, Write, user_scope

T = TypeVar("T")

_MOST_SCOPES = 200
"""A write to more users than this counts as one to everybody."""


@dataclass(frozen=True, slots=True)
class _Question(Generic[Kept]):
    """A recall, the key of its answer, its scope, and the call that asks the driver."""

    wanted: Recall | RecallKnowledge
    key: str
    scope: str
    ask: Callable[[], Awaitable[list[Kept]]]


class CachedDriver(WrappingDriver):
    """Remembers what `recall` and `recall_global_knowledge` of another driver answered.

    After a write for a user, no recall for that user gets an older answer; likewise for knowledge.
    A write that goes past this driver shows when the kept answers have expired.
    """

    name = "cached"

    def __init__(
        self, inner: BaseMemoryDriver, store: CacheStore, configured: str, limits: Limits
    ) -> None:
        """Cached drivers that share a store share answers if they share `configured` and the
        identity of what they hold.
        """
        super().__init__((inner,), limits)
        self._inner = self.inner[0]
        self._store = store
        self._identity = Identity(inner, configured)
        self._single_flight: SingleFlight[tuple[Recalled[Any], bytes | None]] = SingleFlight()
        self._ending: set[asyncio.Task[None]] = set()
        self._hits = 0
        self._misses = 0

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        store = new_store(context.settings.cache)
        if store.shared:
            context.embedder.share_queries(store)
        return cls(context.inner[0], store, configured(context), context.settings.limits)

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
        inner, trouble = await asyncio.gather(self._inner.health_check(), self._store.check())
        facts = {"store": self._store.kind, "hits": self._hits, "misses": self._misses}
        degraded = trouble is not None and inner.status == "ok"
        return DriverHealth(
            driver=self.name,
            status="degraded" if degraded else inner.status,
            detail=inner.detail if inner.status != "ok" else trouble,
            facts={**facts, **self._store.facts()},
            drivers=(inner,),
        )

    async def _recall(self, wanted: Recall) -> list[Memory]:
        if wanted.explain:
            return await self._inner._recall(wanted)
        return await self._answer(wanted, lambda: self._inner._recall(wanted))

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        ask = self._inner._recall_knowledge
        return await self._answer(wanted, lambda: ask(wanted))

    async def _get(self, wanted: Get) -> Record | None:
        return await self._inner._get(wanted)

    async def _page(self, wanted: Page) -> MemoryPage:
        return await self._inner._page(wanted)

    async def _users(self, wanted: Users) -> UserPage:
        return await self._inner._users(wanted)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        return await self._inner._page_knowledge(wanted)

    def _export(self, wanted: Export) -> AsyncIterator[Record]:
        return self._inner._export(wanted)

    async def _model(self) -> Model | None:
        return await self._inner._model()

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        return await self._inner._derived_of(records)

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        return await self._inner._gone(keys)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        scopes = {_scope_of(record) for record in wanted.records}
        return await self._write(scopes, lambda: self._inner._keep(wanted))

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        scope = KNOWLEDGE if wanted.user_id is None else user_scope(wanted.user_id)
        return await self._write({scope}, lambda: self._inner._put(wanted))

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        scope = _scope_of(wanted.record)
        return await self._write({scope}, lambda: self._inner._replace(wanted))

    async def _delete(self, wanted: Delete) -> int:
        if wanted.kind == "knowledge":
            scope = KNOWLEDGE
        else:
            scope = ALL if wanted.user_id is None else user_scope(wanted.user_id)
        return await self._write({scope}, lambda: self._inner._delete(wanted))

    async def _forget(self, wanted: Forget) -> int:
        return await self._write({user_scope(wanted.user_id)}, lambda: self._inner._forget(wanted))

    async def _answer(
        self,
        wanted: Recall | RecallKnowledge,
        ask: Callable[[], Awaitable[list[Kept]]],
    ) -> Recalled[Kept]:
        """What is kept for `wanted`, or what `ask` gives."""
        key, fresh = self._key(wanted), freshness.get()
        if key is None or fresh == "unkept":
            return await self._asked(ask)
        scope = KNOWLEDGE if isinstance(wanted, RecallKnowledge) else user_scope(wanted.user_id)
        question = _Question(wanted, key, scope, ask)
        found = await self._store.find(key, scope)
        if fresh == "fresh":
            return (await self._compute(question, found.stamp))[0]
        if found.value is not None:
            known = unpack(found.value, cached=True)
            now = self._now()
            if known is not None and all(is_alive(record, now) for record in known):
                self._hits += 1
                return cast("Recalled[Kept]", known)
        self._misses += 1
        if found.stamp is None:
            return await self._asked(ask)
        return await self._share(question, found.stamp)

    async def _share(self, question: _Question[Kept], stamp: bytes) -> Recalled[Kept]:
        """Single flight: recalls with the same key and the same stamp share one answer."""
        flight = question.key, stamp
        leads = not self._single_flight.runs(flight)
        answer, packed = await self._single_flight.join(
            flight, lambda: self._compute(question, stamp)
        )
        if leads:
            return answer
        own = None if packed is None else unpack(packed, cached=False)
        return cast("Recalled[Kept]", own) if own is not None else await self._asked(question.ask)

    async def _compute(
        self, question: _Question[Kept], stamp: bytes | None
    ) -> tuple[Recalled[Kept], bytes | None]:
        """The answer, and its bytes if it may be kept.

        It may not where its key has changed meanwhile, with the identity of the inner driver.
        """
        answer = await self._asked(question.ask)
        moved = self._key(question.wanted) != question.key
        packed = None if moved or answer.degraded or answer.cached else pack(answer)
        if packed is not None and stamp is not None:
            now = self._now()
            left = (each.expires_at - now for each in answer if each.expires_at is not None)
            seconds = min((each.total_seconds() for each in left), default=inf)
            kept = Answer(stamp, packed, seconds)
            await self._store.keep(question.key, question.scope, kept)
        return answer, packed

    async def _asked(self, ask: Callable[[], Awaitable[list[Kept]]]) -> Recalled[Kept]:
        answer = await ask()
        if isinstance(answer, Recalled):
            return answer
        return Recalled(answer, driver=self._inner.name)

    async def _write(self, scopes: Iterable[str], make: Callable[[], Awaitable[T]]) -> T:
        """Make the write; from then on no kept answer of the scopes is served."""
        changed = sorted(scopes)
        write = Write.to(changed if len(changed) <= _MOST_SCOPES else (ALL,))
        certain = False
        try:
            await self._store.begin(write)
            answer = await make()
            certain = True
        except MemoryServiceError as error:
            certain = not error.uncertain
            raise
        finally:
            # A cancelled caller leaves at once; the write is ended all the same.
            ending = asyncio.create_task(self._store.end(write, certain=certain))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)
        return answer

    def _key(self, wanted: Recall | RecallKnowledge) -> str | None:
        """The key of the answer; None while the identity of the inner driver is not known."""
        identity = self._identity.now()
        if identity is None:
            return None
        asked = {field.name: getattr(wanted, field.name) for field in fields(wanted)}
        described = [identity, type(wanted).__name__, asked]
        text = json.dumps(described, ensure_ascii=False, default=_told)
        return hashlib.sha256(text.encode()).hexdigest()


def _told(value: Any) -> Any:
    """A moment with its offset, as another offset may be another day; of a dataclass its fields."""
    if isinstance(value, Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, datetime) else asdict(value)


def _scope_of(record: Record) -> str:
    return user_scope(record.user_id) if isinstance(record, Memory) else KNOWLEDGE


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
