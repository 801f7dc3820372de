"""A backend that can be slow, fail, stop in the middle and tell how often it was asked."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from app.core.memory.records import Knowledge, Memory, Recalled
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

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        self.asked += 1
        await self.before()
        found = await super().recall(
            user_id, conversation_id, query, top_k, use_vector, exclude_tags
        )
        await self.after()
        return Recalled(found, driver=self.name, degraded=True) if self.degraded else found

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        self.asked += 1
        return await super().recall_global_knowledge(query, top_k, category)

    async def _keep(self, memories: list[Memory]) -> list[Memory]:
        await self.before()
        kept = await super()._keep([replace(memory) for memory in memories])
        await self.after()
        return kept

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        await self.before()
        deleted = await super().delete(memory_id, user_id)
        await self.after()
        return deleted
