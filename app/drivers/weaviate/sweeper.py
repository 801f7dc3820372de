"""Deletes what has expired: from that moment on nobody finds it, and it takes room."""

from collections.abc import Callable
from datetime import datetime

from app.background import Background
from app.drivers.weaviate.deleting import Deleting
from app.drivers.weaviate.documents import Documents


class Sweeper(Background):
    """Deletes expired records once a minute, whoever else does, and what broken puts have left."""

    failed = "expired_not_deleted"
    every = 60.0

    def __init__(
        self,
        deleting: Deleting,
        documents: Documents,
        now: Callable[[], datetime],
        swept: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`now` is the driver's clock; `swept` is told how many records were deleted."""
        self._deleting = deleting
        self._documents = documents
        self._now = now
        self._swept = swept

    async def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were."""
        now = self._now()
        total = await self._deleting.sweep(now)
        self._swept(total)
        await self._documents.tidy(now)
        return total

    async def work(self) -> None:
        await self.sweep()
