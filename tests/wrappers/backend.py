"""A backend that can be slow, fail, stop in the middle and tell how often it was asked."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from app.core.memory.records import Kept, Knowledge, Memory, Recalled
from app.core.memory.requests import Delete, Keep, Put, Recall, RecallKnowledge
from app.drivers.inmemory import InMemoryDriver
from app.settings import Limits
from tests.wrappers.flaky import OneVector


async def _nothing() -> None:
    pass


class Backend(InMemoryDriver):
    """`inmemory` with whatever a test wants to happen before and after each call."""

    def __init__(self) -> None:
        super().__init__(OneVector(), Limits())
        self.name = "backend"
        self.asked = 0
        """How many recalls were answered, or tried."""
        self.before: Callable[[], Awaitable[None]] = _nothing
        self.after: Callable[[], Awaitable[None]] = _nothing
        """Awaited when all is done, and before it is answered."""
        self.degraded = False

    async def dawdle(self) -> None:
        """Wait for a moment that is different each time; as a `before` or `after`."""
        await asyncio.sleep(random.choice((0, 0, 0.001, 0.004)))

    async def _recall(self, wanted: Recall) -> list[Memory]:
        self.asked += 1
        await self.before()
        found = await super()._recall(wanted)
        await self.after()
        return Recalled(found, driver=self.name, degraded=True) if self.degraded else found

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        self.asked += 1
        return await super()._recall_knowledge(wanted)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        await self.before()
        kept = await super()._keep(wanted)
        await self.after()
        return kept

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        await self.before()
        answer = await super()._put(wanted)
        await self.after()
        return answer

    async def _delete(self, wanted: Delete) -> int:
        await self.before()
        deleted = await super()._delete(wanted)
        await self.after()
        return deleted
