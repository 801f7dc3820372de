"""Leaves a driver alone that does not answer."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from app import metrics
from app.core.memory.record_driver import RecordDriver
from app.errors import (
    DriverTimeout,
    DriverUnavailable,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
    MemoryServiceError,
    NotPermitted,
)
from app.logs import get_logger
from app.tasks import end

State = Literal["closed", "open"]
T = TypeVar("T")

FAILURES = 3
"""Failures in a row after which a driver is left alone."""
COOLDOWN = 5.0
"""Seconds that it is left alone before a health check tries it."""
_PROBE_SECONDS = 5.0
_RECORDS_IN_TIME = 25

_log = get_logger(__name__)


def time_for(timeout: float, records: int) -> float:
    """Seconds to wait for a call with so many records: a batch has the time-out for each 25."""
    return timeout * max(1.0, records / _RECORDS_IN_TIME)


class Breaker:
    """A circuit breaker around one driver.

        closed ──failures in a row──▶ open ──cooldown──▶ half-open ──healthy──▶ closed
          ▲                            ▲                    │
          └─ any answer: count = 0     └──────unhealthy─────┘

    While it is open no call is made, but for what the journal brings: who takes that is healthy.
    Half-open is a health check of its own, in the background: no caller waits for a probe. Every
    change is logged and counted once.
    """

    def __init__(
        self,
        driver: RecordDriver,
        *,
        wrapper: str,
        failures: int,
        cooldown: float,
    ) -> None:
        self._driver = driver
        self._wrapper = wrapper
        self._failures = failures
        self._cooldown = cooldown
        self.on_close: Callable[[], None] = lambda: None
        """Called when the probe finds the driver healthy."""
        self._failed = 0
        self._probing: asyncio.Task[None] | None = None
        self._stopped = False
        self.state: State = "closed"

    def start(self) -> None:
        """Work again after `stop`."""
        self._stopped = False

    def succeeded(self) -> None:
        """The driver answered."""
        self._failed = 0

    def failed(self, reason: str) -> None:
        """The driver did not answer."""
        self._failed += 1
        if self._failed >= self._failures:
            self.trip(reason)

    def trip(self, reason: str) -> None:
        """Leave the driver alone from now on, until it is healthy."""
        if self.state == "closed" and not self._stopped:
            self._change("open", reason)
            self._probing = asyncio.create_task(self._probe())

    def proved(self) -> None:
        """The driver took what was brought to it: ask it again, without waiting for the probe."""
        if self.state == "open":
            if self._probing is not None:
                self._probing.cancel()
            self._close()

    async def stop(self) -> None:
        """End the probing, for good: a call that fails later starts none."""
        self._stopped = True
        task, self._probing = self._probing, None
        await end(task)
        self.state, self._failed = "closed", 0

    async def _probe(self) -> None:
        while self.state == "open":
            await asyncio.sleep(self._cooldown)
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    health = await self._driver.health_check()
            except TimeoutError:
                continue
            except Exception:  # noqa: BLE001 - a probe that ended would leave it alone for ever
                _log.exception("probe_failed", wrapper=self._wrapper, driver=self._driver.name)
                continue
            if health.status != "unavailable":
                self._close()
                self.on_close()

    def _close(self) -> None:
        self._failed = 0
        self._change("closed", None)

    def _change(self, state: State, reason: str | None) -> None:
        self.state = state
        metrics.BREAKER_CHANGES.labels(self._wrapper, self._driver.name, state).inc()
        _log.warning(
            "driver_left_alone" if state == "open" else "driver_is_back",
            wrapper=self._wrapper,
            driver=self._driver.name,
            reason=reason,
        )


class Node:
    """A driver that is held, and whether to ask it."""

    def __init__(self, driver: RecordDriver, breaker: Breaker, timeout: float) -> None:
        self.driver = driver
        self.breaker = breaker
        self._timeout = timeout

    @property
    def name(self) -> str:
        return self.driver.name

    async def ask(self, call: Callable[[RecordDriver], Awaitable[T]], *, records: int = 1) -> T:
        """What `call` gives on the driver.

        Raises `DriverUnavailable` or `DriverTimeout` without an answer. `records`: how many the
        call brings.
        """
        if self.breaker.state == "open":
            raise DriverUnavailable(reason=f"{self.name} is left alone")
        try:
            async with asyncio.timeout(time_for(self._timeout, records)):
                answered = await call(self.driver)
        except (EmbeddingQueueFull, EmbeddingUnavailable):
            raise  # the model, not the driver
        except NotPermitted:
            self.breaker.succeeded()  # it refuses this, and answers the rest
            raise
        except (TimeoutError, DriverTimeout, DriverUnavailable) as error:
            reason = error.reason if isinstance(error, MemoryServiceError) else "no answer in time"
            self.breaker.failed(reason)
            if isinstance(error, TimeoutError):
                raise DriverTimeout(reason=f"{self.name}: {reason}") from error
            raise
        except MemoryServiceError:
            self.breaker.succeeded()  # it answered
            raise
        self.breaker.succeeded()
        return answered
