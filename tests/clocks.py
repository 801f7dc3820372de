"""Lets a driver's time pass, without waiting for it."""

from collections.abc import Iterator
from datetime import datetime

from app.core.memory.clock import CLOCK, Clock
from app.core.memory.record_driver import RecordDriver
from app.wrappers.base import WrappingDriver


def let_pass(driver: RecordDriver, until: datetime) -> None:
    """Let it be later than `until` for the driver, and for all that it holds.

    The clock of the process stays as it is: other tests have it too.
    """
    for each in _with_held(driver):
        if each.clock is CLOCK:
            each.clock = Clock()
        each.clock.set_floor(until.timestamp())


def _with_held(driver: RecordDriver) -> Iterator[RecordDriver]:
    yield driver
    if isinstance(driver, WrappingDriver):
        for each in driver.inner:
            yield from _with_held(each)
