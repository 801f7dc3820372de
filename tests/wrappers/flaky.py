"""Drivers that take their time and fail."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeAlias, TypeVar

import numpy as np

from app.core.memory.base import DriverHealth
from app.core.memory.records import Kept, Knowledge, Memory, record_id
from app.core.memory.requests import Delete, Forget, Keep, Put, Replace
from app.drivers.inmemory import InMemoryDriver
from app.embedding import Embedder, Vector
from app.errors import ConnectionLost, DriverUnavailable
from app.settings import Limits
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

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return await self._made(lambda: super(FlakyDriver, self)._put(wanted))

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._made(lambda: super(FlakyDriver, self)._replace(wanted))

    async def _delete(self, wanted: Delete) -> int:
        return await self._made(lambda: super(FlakyDriver, self)._delete(wanted))

    async def _forget(self, wanted: Forget) -> int:
        return await self._made(lambda: super(FlakyDriver, self)._forget(wanted))

    async def health_check(self) -> DriverHealth:
        if self.away:
            return DriverHealth(driver=self.name, status="unavailable")
        return await super().health_check()

    @property
    def kept(self) -> dict[str, Memory | Knowledge]:
        """Everything in it that has not expired, by id."""
        every = self._places.now.all()
        return {record_id(record): record for record in every if self._is_alive(record)}


async def settled(driver: Journalled, seconds: float = 20) -> None:
    """Wait until the journal is empty: every driver has everything."""
    async with asyncio.timeout(seconds):
        while await driver.members.journal.count():
            for dispatcher in driver.members.dispatchers.values():
                dispatcher.wake(back=True)  # without the pauses after failures
            await asyncio.sleep(0.05)
