"""What wrapping drivers share: the drivers that they hold, and a life with them."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import datetime

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.record_driver import RecordDriver
from app.core.memory.reembedding import Reembedding
from app.core.memory.six_verbs import record_driver
from app.embedding import Embedder
from app.errors import CapabilityMissing
from app.settings import Limits


class WrappingDriver(RecordDriver):
    """A driver over inner drivers, which it opens and closes with itself.

    It can do what all of them can. Its hooks call theirs.
    """

    def __init__(self, inner: Sequence[BaseMemoryDriver], limits: Limits) -> None:
        super().__init__(limits)
        self.inner = tuple(record_driver(driver, limits) for driver in inner)
        if len(self.inner) == 1:
            self.clock = self.inner[0].clock
        self.complete = all(driver.complete for driver in self.inner)
        self.explains = all(driver.explains for driver in self.inner)
        self.lists_users = all(driver.lists_users for driver in self.inner)
        self.weighs_recency = all(driver.weighs_recency for driver in self.inner)
        self.lists_knowledge = all(driver.lists_knowledge for driver in self.inner)
        self.keeps_documents = all(driver.keeps_documents for driver in self.inner)

    def _moment(self) -> AbstractAsyncContextManager[datetime]:
        return self.inner[0]._moment() if len(self.inner) == 1 else super()._moment()

    def identity(self) -> frozenset[str] | None:
        """The identities of all inner drivers; None while one of them is not known."""
        found: frozenset[str] = frozenset()
        for driver in self.inner:
            identity = driver.identity()
            if identity is None:
                return None
            found |= identity
        return found

    def leaves(self) -> frozenset[BaseMemoryDriver]:
        return frozenset().union(*(driver.leaves() for driver in self.inner))

    def reembedding(self, embedder: Embedder) -> Reembedding:
        names = ", ".join(sorted(driver.name for driver in self.leaves()))
        raise CapabilityMissing(
            f"The driver {self.name!r} keeps no records itself: name one of those it holds: {names}"
        )

    async def catch_up(self, driver: str) -> None:
        """Before a repair: deliver what is pending for the driver of that name, if it is held."""

    async def settled(self, driver: str) -> None:
        """During a repair: wait until the driver of that name has what is pending for it now.

        Nothing is pending for a driver that is not held. Raises `DriverTimeout` after ten seconds,
        and `JournalUnavailable`.
        """

    async def mended(self, driver: str) -> None:
        """After a repair: the records of the driver of that name, held or not, have changed."""

    async def open(self) -> None:
        for driver in self.inner:
            await driver.open()

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for driver in self.inner:
                stack.push_async_callback(driver.close)
