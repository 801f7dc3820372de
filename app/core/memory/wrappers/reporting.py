"""What wrapping drivers with a journal tell of themselves."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import structlog

from app import metrics
from app.core.memory.base import DriverHealth, HealthStatus
from app.core.memory.journal.journal import Journal
from app.errors import JournalUnavailable

_log = structlog.stdlib.get_logger(__name__)


async def open_journal(journal: Journal, drivers: Sequence[str], wrapper: str) -> None:
    """Open it, or go on without it: it opens itself when it can. Raises `ConfigurationError`."""
    try:
        await journal.open(drivers)
    except JournalUnavailable as error:
        _log.error("journal_unavailable_at_start", wrapper=wrapper, reason=error.reason)


async def journal_facts(journal: Journal, wrapper: str) -> tuple[dict[str, Any], str | None]:
    """What each driver still has to get, for `/health` and the metrics; and what is wrong."""
    try:
        lags = await journal.lag()
    except JournalUnavailable as error:
        return {}, error.detail
    for driver in journal.drivers:
        lag = lags.get(driver)
        metrics.JOURNAL_PENDING.labels(wrapper, driver).set(lag.count if lag else 0)
        metrics.JOURNAL_AGE.labels(wrapper, driver).set(lag.oldest if lag else 0)
    shown = {
        driver: {"count": lag.count, "age_seconds": lag.oldest, "refused": lag.parked}
        for driver, lag in lags.items()
    }
    late = ", ".join(f"{driver} ({lag.count})" for driver, lag in sorted(lags.items()))
    detail = f"writes wait for {late}" if late else None
    refused = [driver for driver, lag in lags.items() if lag.parked]
    if refused:
        detail = f"{detail}; refused by {', '.join(refused)}: see the log, then repair"
    return {"pending": shown}, detail


def tree_health(
    name: str,
    status: HealthStatus,
    detail: str | None,
    facts: dict[str, Any],
    inner: Sequence[DriverHealth],
    started: float,
) -> DriverHealth:
    """The state of a driver and of those it holds."""
    facts = {"latency_ms": round((perf_counter() - started) * 1000, 1), **facts}
    return DriverHealth(
        driver=name, status=status, detail=detail, facts=facts, drivers=tuple(inner)
    )
