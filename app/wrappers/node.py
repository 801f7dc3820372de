"""An inner driver, which is left alone while it does not answer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import TypeVar

from app.core.memory.record_driver import RecordDriver
from app.core.memory.requests import Delete, Forget
from app.errors import (
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    MemoryServiceError,
    NotPermitted,
)
from app.reachability import Reachability
from app.tasks import postponing

T = TypeVar("T")

FAILURES = 3
"""Failures in a row after which a driver is left alone."""
COOLDOWN = 5.0
"""Seconds before a health check tries a driver that is left alone, and between two."""
_RECORDS_IN_TIME = 25


def time_for(timeout: float, records: int) -> float:
    """Seconds to wait for a call with so many records: a batch has the time-out for each 25."""
    return timeout * max(1.0, records / _RECORDS_IN_TIME)


class Node:
    """An inner driver, and whether to ask it.

    While it is away no caller's request goes to it: a health check in the background finds out when
    it is back. Dispatchers still try, and a driver that takes a delivery is back.
    """

    def __init__(
        self, driver: RecordDriver, timeout: float, wrapper: str, on_back: Callable[[], None]
    ) -> None:
        self.driver = driver
        self._timeout = timeout
        self.reachability = Reachability(
            driver.name,
            wrapper,
            probe=self._is_healthy,
            pauses=(COOLDOWN, COOLDOWN),
            failures=FAILURES,
            on_back=on_back,
        )

    @property
    def name(self) -> str:
        return self.driver.name

    async def ask(
        self,
        call: Callable[[RecordDriver], Awaitable[T]],
        *,
        records: int = 1,
        patience: float = 1.0,
    ) -> T:
        """What `call` gives on the driver.

        Raises `DriverUnavailable` or `DriverTimeout` without an answer. `records`: how many the
        call brings. `patience`: how many times its time-out the call may take.
        """
        seconds = patience * time_for(self._timeout, records)
        return await self._asked(lambda driver, _: call(driver), seconds)

    async def delete(self, wanted: Delete | Forget, *, patience: float = 1.0) -> int:
        """How many records the driver has deleted; errors and `patience` as of `ask`.

        To forget a user may take the time for each piece that the driver deletes.
        """
        if isinstance(wanted, Delete):
            records = len(wanted.ids)
            return await self.ask(
                lambda driver: driver._delete(wanted), records=records, patience=patience
            )

        def forget(driver: RecordDriver, postpone: Callable[[], None]) -> Awaitable[int]:
            def on_piece() -> None:
                postpone()
                wanted.on_piece()

            return driver._forget(replace(wanted, on_piece=on_piece))

        return await self._asked(forget, patience * self._timeout)

    async def _asked(
        self, call: Callable[[RecordDriver, Callable[[], None]], Awaitable[T]], seconds: float
    ) -> T:
        """What `call` gives within so many seconds, which begin anew when it calls its argument."""
        if self.reachability.away:
            raise DriverUnavailable(reason=f"{self.name} is left alone")
        started = monotonic()
        try:
            async with asyncio.timeout(seconds) as limit:
                answered = await call(self.driver, postponing(limit, seconds))
        except (EmbeddingQueueFull, EmbeddingUnavailable):
            raise  # the model, not the driver
        except NotPermitted:
            self.reachability.answered(started)  # it refuses this, and answers the rest
            raise
        except (TimeoutError, DriverTimeout, DriverUnavailable) as error:
            reason = error.reason if isinstance(error, MemoryServiceError) else "no answer in time"
            self.reachability.failed(reason, started)
            if isinstance(error, TimeoutError):
                raise DriverTimeout(reason=f"{self.name}: {reason}") from error
            raise
        except MemoryServiceError:
            self.reachability.answered(started)
            raise
        self.reachability.answered(started)
        return answered

    async def _is_healthy(self) -> bool:
        return (await self.driver.health_check()).status != "unavailable"


async def first_answer(
    nodes: Sequence[Node], ask: Callable[[Node], Awaitable[T]], wrapper: str
) -> tuple[T, Node, bool]:
    """The first answer, the node that gave it, and whether a node before that one gave none.

    Raises `DriverUnavailable` where no node answers; at once `EmbeddingQueueFull`, and every error
    that is no outage.
    """
    failures: list[MemoryServiceError] = []
    for node in nodes:
        try:
            found = await ask(node)
        except EmbeddingQueueFull:
            raise
        except (DriverUnavailable, DriverTimeout) as error:
            failures.append(error)
            continue
        return found, node, bool(failures)
    raise nobody(failures, wrapper)


def nobody(failures: Sequence[MemoryServiceError], wrapper: str) -> MemoryServiceError:
    """What to tell when no driver answers."""
    if failures and all(isinstance(failure, EmbeddingUnavailable) for failure in failures):
        return failures[0]
    unavailable = DriverUnavailable(reason=f"{wrapper}: none of its drivers answers")
    unavailable.__cause__ = failures[0] if failures else None
    return unavailable
