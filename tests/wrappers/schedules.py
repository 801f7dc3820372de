"""What happens to a wrapping driver, step by step, and what must be true afterwards.

Calls go on while later steps are made, each by a caller of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Literal, cast

from sqlalchemy import update

from app.errors import JournalUnavailable, MemoryServiceError
from app.journal.tables import entries
from app.settings import JournalSettings
from tests.wrappers.callers import A_WHILE, Call, Caller, there_already
from tests.wrappers.flaky import Journalled
from tests.wrappers.oracle import Attempt, History
from tests.wrappers.scripted import SLOW, STUCK, Shape, holders, journalled

Event = Literal[
    "away",
    "back",
    "lose",
    "slow",
    "stuck",
    "refuse_keep",
    "refuse_replace",
    "refuse_delete",
    "refuse_forget",
    "refuse_put",
    "mend",
    "stop_dispatcher",
    "start_dispatcher",
    "journal_lost",
    "journal_back",
    "leases_end",
    "restart",
]


@dataclass(frozen=True, slots=True)
class Step:
    """A call or an event, and how long it is until the next step."""

    what: Call | Event
    at: int = 0
    """Which user, record or driver: counted around."""
    on: int = 0
    """Through which of the wrapping drivers that share the journal."""
    cancelled: float | None = None
    """After so many seconds the caller is cancelled."""
    pause: float = 0.0
    """Seconds until the next step."""


class World:
    """A wrapping driver, or two of one kind as two processes have them, and its callers."""

    def __init__(
        self, shape: Shape, journal: JournalSettings, random: Random, *, processes: int = 1
    ) -> None:
        self.shape = shape
        self.random = random
        self.history = History(shared=journal.url is not None)
        self.leaves = shape.leaves(random)
        self._journal = journal
        self.drivers = [shape.over(self.leaves, journal) for _ in range(processes)]
        self._callers: set[asyncio.Task[None]] = set()
        self._errors: list[BaseException] = []
        self._disturbed = 0.0
        """The place of the last event."""
        self.strict = True
        self._journal_fails = 0.0

    # Its life

    async def run(self, steps: list[Step]) -> None:
        """Make the steps, let everything come to rest, and check what is there then."""
        first = there_already()
        self.history.see(first)
        for leaf in self.leaves:
            await leaf.seed(first)
        for driver in self.drivers:
            await self._open(driver)
        for step in steps:
            await self._make(step)
            await asyncio.sleep(step.pause)
        await self._come_to_rest()
        for driver in self.drivers:
            await driver.close()
        self.check()

    async def _open(self, driver: Journalled) -> None:
        for each in journalled(driver):
            self._may_fail(each)
        try:
            await driver.open()
        except MemoryServiceError:  # it opens what is away when it is back
            for each in journalled(driver):
                each.members.start_delivering()

    def _may_fail(self, driver: Journalled) -> None:
        """Let the journal fail as the schedule says: before a transaction, or after it."""
        database = driver.members.journal.database
        transaction = database.transaction

        async def failing(*arguments: Any, **named: Any) -> Any:
            fate = self.random.random()
            if fate < self._journal_fails / 2:
                raise JournalUnavailable(reason="lost before")
            answer = await transaction(*arguments, **named)
            if fate < self._journal_fails:
                raise JournalUnavailable(reason="lost after")
            return answer

        database.transaction = failing  # type: ignore[method-assign]

    async def _come_to_rest(self) -> None:
        self._journal_fails, self._disturbed = 0.0, self.history.now()
        for leaf in self.leaves:
            leaf.mend()
        await asyncio.gather(*self._callers)
        if self._errors:
            raise self._errors[0]
        async with asyncio.timeout(60):
            while await self._pending():
                await self._end_leases()
                for driver in self.drivers:
                    for each in journalled(driver):
                        for dispatcher in each.members.dispatchers.values():
                            dispatcher.start()
                            await dispatcher.try_again()
                            dispatcher.wake(back=True)
                await asyncio.sleep(0.1)
        await asyncio.sleep(2 * A_WHILE)  # what is kept for a while has expired everywhere

    async def _pending(self) -> int:
        counts = [
            await each.members.journal.count()
            for driver in self.drivers
            for each in journalled(driver)
        ]
        return sum(counts)

    async def _end_leases(self) -> None:
        for each in journalled(self.drivers[0]):
            over = update(entries).values(leased_until=0.0)
            await each.members.journal.database.execute(over)

    def check(self) -> None:
        """Raise `AssertionError` where something promised is not so."""
        have = [leaf.kept for leaf in holders(self.drivers[0])]
        for leaf, kept in zip(holders(self.drivers[0]), have, strict=True):
            assert kept == have[0], f"{leaf.name} differs: {kept} {have[0]}"
        self.history.check(have[0], strict=self.strict)
        for leaf in self.leaves:
            self.history.check_deletes(leaf.kept)

    # Steps

    async def _make(self, step: Step) -> None:
        event: Callable[[Step], Awaitable[None]] | None = getattr(self, f"_{step.what}", None)
        if event is not None:
            if self.shape.last_wins:
                self.strict = False
            self._disturbed = self.history.now()
            await event(step)
            return
        if step.cancelled is not None and self.shape.last_wins:
            self.strict = False
        driver = self.drivers[step.on % len(self.drivers)]
        caller = asyncio.create_task(self._call(driver, step))
        self._callers.add(caller)
        if step.cancelled is not None:
            asyncio.get_running_loop().call_later(step.cancelled, caller.cancel)

    async def _away(self, step: Step) -> None:
        self._leaf(step).away = True

    async def _back(self, step: Step) -> None:
        self._leaf(step).away = False

    async def _lose(self, step: Step) -> None:
        self._leaf(step).lost = 0.5

    async def _slow(self, step: Step) -> None:
        self._leaf(step).delay = SLOW

    async def _stuck(self, step: Step) -> None:
        self._leaf(step).delay = STUCK

    async def _refuse_keep(self, step: Step) -> None:
        self._leaf(step).refuses.add("keep")

    async def _refuse_replace(self, step: Step) -> None:
        self._leaf(step).refuses.add("replace")

    async def _refuse_delete(self, step: Step) -> None:
        self._leaf(step).refuses.add("delete")

    async def _refuse_forget(self, step: Step) -> None:
        self._leaf(step).refuses.add("forget")

    async def _refuse_put(self, step: Step) -> None:
        self._leaf(step).refuses.add("put")

    async def _mend(self, step: Step) -> None:
        self._leaf(step).mend()

    def _leaf(self, step: Step) -> Any:
        return self.leaves[step.at % len(self.leaves)]

    async def _stop_dispatcher(self, step: Step) -> None:
        for each in journalled(self.drivers[step.on % len(self.drivers)]):
            dispatchers = [*each.members.dispatchers.values()]
            await dispatchers[step.at % len(dispatchers)].stop()

    async def _start_dispatcher(self, step: Step) -> None:
        for each in journalled(self.drivers[step.on % len(self.drivers)]):
            for dispatcher in each.members.dispatchers.values():
                dispatcher.start()
                dispatcher.wake(back=True)

    async def _journal_lost(self, step: Step) -> None:
        self._journal_fails = 0.4

    async def _journal_back(self, step: Step) -> None:
        self._journal_fails = 0.0

    async def _leases_end(self, step: Step) -> None:
        """Every writer took longer than it may."""
        fails, self._journal_fails = self._journal_fails, 0.0
        await self._end_leases()
        self._journal_fails = fails

    async def _restart(self, step: Step) -> None:
        """End the process amid its writes, and start another on the same journal."""
        which = step.on % len(self.drivers)
        for caller in self._callers:
            caller.cancel()
        fails, self._journal_fails = self._journal_fails, 0.0
        await self.drivers[which].close()
        self.drivers[which] = self.shape.over(self.leaves, self._journal)
        await self._open(self.drivers[which])
        self._journal_fails = fails

    # Calls

    async def _call(self, driver: Journalled, step: Step) -> None:
        caller = Caller(driver, self.history, self._shows)
        try:
            await caller.call(cast("Call", step.what), step.at)
        except asyncio.CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - raised at the end
            self._errors.append(error)

    def _shows(self, attempt: Attempt) -> bool:
        """Whether a read that ends now has to show what the acknowledged call did."""
        if self._journal_fails:
            return False
        if "failover" not in self.shape.kind or attempt.verb == "delete":
            return True
        # What failover's primary has, no other driver has.
        calm = self._disturbed < attempt.started and all(leaf.calm for leaf in self.leaves)
        return calm and not any(
            node.reachability.away
            for driver in self.drivers
            for each in journalled(driver)
            for node in each.members.nodes
        )
