"""What waits in a journal, for which driver, and since when."""

from collections.abc import Sequence
from time import time
from typing import Any

from sqlalchemy import Select, func, select

from app.core.memory.journal.entries import Lag
from app.core.memory.journal.tables import deliveries, entries


def waiting() -> Select[Any]:
    """For each wrapping driver and each driver that it delivers to, what `lags` reads."""
    return (
        select(
            entries.c.wrapper,
            deliveries.c.target,
            func.count(),
            func.min(entries.c.created_at),
            func.count().filter(deliveries.c.parked),
        )
        .join(entries, entries.c.seq == deliveries.c.seq)
        .group_by(entries.c.wrapper, deliveries.c.target)
        .order_by(entries.c.wrapper, deliveries.c.target)
    )


def lags(rows: Sequence[Any]) -> dict[tuple[str, str], Lag]:
    """By wrapping driver and driver, what the rows of `waiting` tell."""
    now = time()
    return {
        (wrapper, target): Lag(count, round(max(0.0, now - oldest), 3), parked)
        for wrapper, target, count, oldest, parked in rows
    }
