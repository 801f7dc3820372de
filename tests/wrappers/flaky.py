"""Drivers that take their time and fail, and what must be true however their calls interleave."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import TypeAlias, TypeVar

import numpy as np

from app.core.memory.base import DriverHealth
from app.core.memory.records import Kept, Knowledge, Memory, NewMemory
from app.core.memory.requests import Delete, Forget, Keep, Replace
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder, Vector
from app.errors import ConnectionLost, DriverUnavailable, MemoryServiceError
from app.settings import Limits
from app.wrappers.base import WrappingDriver
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver

T = TypeVar("T")

Journalled: TypeAlias = FailoverDriver | ReplicatedDriver


class OneVector(Embedder):
    """Every text has the same vector: for tests that do not search."""

    name = "one-vector"
    dimension = 1
    max_tokens = None

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return np.ones(1, np.float32)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.ones((len(texts), 1), np.float32)


class FlakyDriver(InMemoryDriver):
    """Waits before and after each write, and fails some: before, or after it was made."""

    def __init__(self, name: str, random: Random, *, delay: float = 0.004) -> None:
        super().__init__(OneVector(), Limits())
        self.name = name
        self.random = random
        self.delay = delay
        self.lost = 0.0
        """The share of writes whose answer is lost."""
        self.unreached = 0.0
        """The share of writes that are known not to have come to it."""
        self.away = False
        """Whether it can't be reached."""

    async def _made(self, write: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(self.random.uniform(0, self.delay))
        if self.away or self.random.random() < self.unreached:
            raise DriverUnavailable(reason=f"{self.name} is away")
        fate = self.random.random()
        if fate < self.lost / 2:
            raise ConnectionLost(reason=f"{self.name} was lost before")
        answer = await write()
        await asyncio.sleep(self.random.uniform(0, self.delay))
        if fate < self.lost:
            raise ConnectionLost(reason=f"{self.name} was lost after")
        return answer

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        return await self._made(lambda: super(FlakyDriver, self)._keep(wanted))

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._made(lambda: super(FlakyDriver, self)._replace(wanted))

    async def _delete(self, wanted: Delete) -> bool:
        return await self._made(lambda: super(FlakyDriver, self)._delete(wanted))

    async def _forget(self, wanted: Forget) -> int:
        return await self._made(lambda: super(FlakyDriver, self)._forget(wanted))

    async def health_check(self) -> DriverHealth:
        if self.away:
            return DriverHealth(driver=self.name, status="unavailable")
        return await super().health_check()

    @property
    def kept(self) -> dict[str, Memory | Knowledge]:
        """Everything in it, by id."""
        memories = {key: one for own in self._memories.values() for key, one in own.items()}
        return {**memories, **self._knowledge}


@dataclass
class _Delete:
    started: float
    ended: float
    acknowledged: bool


@dataclass
class History:
    """What was asked and what was answered, to be held against what is there at the end."""

    driver: WrappingDriver
    stores: dict[str, tuple[str | None, float, float]] = field(default_factory=dict)
    """Acknowledged: by id the user, when it began and when it was answered."""
    deletes: dict[str, list[_Delete]] = field(default_factory=dict)
    """By id, or by user."""

    async def store(self, user_id: str, count: int = 1) -> None:
        started = perf_counter()
        with suppress(MemoryServiceError):
            if count == 1:
                stored = [await self.driver.store(user_id, "A jar.")]
            else:
                new = [NewMemory(user_id=user_id, content="A jar.")] * count
                stored = await self.driver.store_many(new)
            ended = perf_counter()
            self.stores.update({m.memory_id: (user_id, started, ended) for m in stored})

    async def store_knowledge(self) -> None:
        started = perf_counter()
        with suppress(MemoryServiceError):
            knowledge = await self.driver.store_global_knowledge("A jar.", "jars")
            self.stores[knowledge.knowledge_id] = (None, started, perf_counter())

    async def delete(self, key: str) -> None:
        user_id = self.stores[key][0]
        if user_id is None:
            await self._delete(key, lambda: self.driver.delete_knowledge(key))
        else:
            await self._delete(key, lambda: self.driver.delete(key, user_id))

    async def delete_user(self, user_id: str) -> None:
        await self._delete(user_id, lambda: self.driver.delete_user(user_id))

    async def _delete(self, key: str, made: Callable[[], Awaitable[object]]) -> None:
        attempt = _Delete(perf_counter(), float("inf"), acknowledged=False)
        self.deletes.setdefault(key, []).append(attempt)
        with suppress(MemoryServiceError):
            await made()
            attempt.acknowledged = True
        attempt.ended = perf_counter()

    def check(self, kept: dict[str, Memory | Knowledge]) -> None:
        """Nothing acknowledged is lost, unless a delete concerns it; nothing deleted is back."""
        for key, (user_id, started, ended) in self.stores.items():
            of_user = self.deletes.get(user_id, []) if user_id is not None else []
            mine = self.deletes.get(key, [])
            if key not in kept:
                assert mine or any(d.ended > started for d in of_user), f"{key} is lost"
            else:
                assert not any(d.acknowledged for d in mine), f"{key} is back"
                again = any(d.acknowledged and d.started > ended for d in of_user)
                assert not again, f"{key} of {user_id} is back"


async def storm(history: History, random: Random, users: Sequence[str], count: int) -> None:
    """Stores and deletes, many at once."""

    async def one() -> None:
        await asyncio.sleep(random.uniform(0, 0.05))
        user_id = random.choice(users)
        match random.choices(("store", "batch", "knowledge", "delete", "user"), (6, 2, 2, 5, 2))[0]:
            case "store":
                await history.store(user_id)
            case "batch":
                await history.store(user_id, 3)
            case "knowledge":
                await history.store_knowledge()
            case "delete" if history.stores:
                await history.delete(random.choice(list(history.stores)))
            case "user":
                await history.delete_user(user_id)

    await asyncio.gather(*(one() for _ in range(count)))


async def settled(driver: Journalled, seconds: float = 20) -> None:
    """Wait until the journal is empty: every driver has everything."""
    async with asyncio.timeout(seconds):
        while await driver.members.journal.count():
            for dispatcher in driver.members.dispatchers.values():
                dispatcher.wake(back=True)  # without the pauses after failures
            await asyncio.sleep(0.05)
