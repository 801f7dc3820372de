"""Wrapping drivers to try, over drivers that do what a schedule says."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, TypeVar

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, MemoryPage, Record
from app.core.memory.requests import Delete, Forget, Get, Keep, Page, Put, Replace
from app.drivers.inmemory import InMemoryDriver
from app.errors import DriverError, DriverUnavailable
from app.settings import FailoverSettings, JournalSettings, Limits, ReplicatedSettings
from app.wrappers.base import WrappingDriver
from app.wrappers.failover import FailoverDriver
from app.wrappers.replicated import ReplicatedDriver
from tests.wrappers.alone import left_alone
from tests.wrappers.flaky import FlakyDriver, Journalled, OneVector

T = TypeVar("T")

TIMEOUT = 0.1
"""Seconds for which a driver is waited for."""
SLOW = 0.03
"""The longest delay, before and after a write, of a driver that is slow."""
STUCK = 0.4
"""That of a driver whose answers come too late."""

Refusable = Literal["keep", "put", "replace", "delete", "forget"]
Kind = Literal[
    "failover",
    "replicated",
    "failover over replicated",
    "replicated over replicated",
    "replicated over failover",
]


class ScriptedDriver(FlakyDriver):
    """Healthy, and refuses what the schedule says; its reads fail too while it is away."""

    def __init__(self, name: str, random: Random, *, atomic: bool = True) -> None:
        super().__init__(name, random, delay=0.004)
        self._usual = self.delay
        self.refuses: set[Refusable] = set()
        self._atomic = atomic
        self.fates: list[Callable[[], None]] = []
        """What happens after each of the next writes, before it is answered; it may raise."""

    async def _made(self, write: Callable[[], Awaitable[T]]) -> T:
        answer = await super()._made(write)
        if self.fates:
            self.fates.pop(0)()
        return answer

    def mend(self) -> None:
        self.away, self.lost, self.delay = False, 0.0, self._usual
        self.refuses.clear()

    async def seed(self, records: Sequence[Record]) -> None:
        """Have these from the start."""
        await InMemoryDriver._keep(self, Keep(records))

    @property
    def calm(self) -> bool:
        """Whether it takes what it gets."""
        return not (self.away or self.lost or self.refuses or self.delay > self._usual)

    def _refused(self, what: Refusable) -> None:
        if what in self.refuses and not self.away:
            raise DriverError(reason=f"{self.name} refuses to {what}")

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        self._refused("keep")
        return await super()._keep(wanted)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        self._refused("put")
        return await super()._put(wanted)

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        self._refused("replace")
        if self._atomic:
            return await super()._replace(wanted)
        return await RecordDriver._replace(self, wanted)

    async def _delete(self, wanted: Delete) -> int:
        self._refused("delete")
        return await super()._delete(wanted)

    async def _forget(self, wanted: Forget) -> int:
        self._refused("forget")
        return await super()._forget(wanted)

    async def _get(self, wanted: Get) -> Record | None:
        return await self._read(lambda: super(ScriptedDriver, self)._get(wanted))

    async def _page(self, wanted: Page) -> MemoryPage:
        return await self._read(lambda: super(ScriptedDriver, self)._page(wanted))

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        if self.away:
            raise DriverUnavailable(reason=f"{self.name} is away")
        return await read()


@dataclass(frozen=True, slots=True)
class Shape:
    """Which wrapping driver a schedule happens to, and how it is set."""

    kind: Kind = "replicated"
    writes: Literal["primary", "journal"] = "primary"
    acknowledge: Literal["journal", "primary", "quorum", "all"] = "primary"
    reads: Literal["primary", "replicas"] = "primary"
    atomic: bool = True
    """Whether the primary compares and sets at once."""

    def leaves(self, random: Random) -> list[ScriptedDriver]:
        names = ("first", "second") if self.kind == "failover" else ("first", "second", "third")
        return [
            ScriptedDriver(name, random, atomic=self.atomic or name != "first") for name in names
        ]

    def over(self, leaves: Sequence[ScriptedDriver], journal: JournalSettings) -> Journalled:
        outer, *rest = self.kind.split(" over ")
        inner: list[RecordDriver] = [*leaves]
        if rest:
            inner = [self._made(rest[0], leaves[:2], journal, "inner"), *leaves[2:]]
        return self._made(outer, inner, journal, "outer")

    def _made(
        self, kind: str, inner: Sequence[RecordDriver], journal: JournalSettings, name: str
    ) -> Journalled:
        with left_alone():
            if kind == "failover":
                chosen = FailoverSettings(writes=self.writes, timeout=TIMEOUT)
                return FailoverDriver(inner, chosen, journal, OneVector(), Limits(), name)
            settings = ReplicatedSettings(
                acknowledge=self.acknowledge, reads=self.reads, timeout=TIMEOUT
            )
            return ReplicatedDriver(inner, settings, journal, OneVector(), Limits(), name)

    @property
    def last_wins(self) -> bool:
        """Whether an update that a journal took may lose one that was made on the primary.

        It is made on what a failover's fallback shows, which may be older.
        """
        outer_takes = self.kind == "replicated over failover" and self.acknowledge == "journal"
        return outer_takes or ("failover" in self.kind and self.writes == "journal")


def journalled(driver: RecordDriver) -> Iterator[Journalled]:
    """The driver, and those below it, as far as each has a journal."""
    if isinstance(driver, FailoverDriver | ReplicatedDriver):
        yield driver
    if isinstance(driver, WrappingDriver):
        for each in driver.inner:
            yield from journalled(each)


def holders(driver: RecordDriver) -> list[ScriptedDriver]:
    """Those that must have everything at the end."""
    if isinstance(driver, FailoverDriver):
        return holders(driver.inner[0])
    if isinstance(driver, ReplicatedDriver):
        return [one for each in driver.inner for one in holders(each)]
    assert isinstance(driver, ScriptedDriver)
    return [driver]
