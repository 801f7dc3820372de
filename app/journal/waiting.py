"""What is pending in a journal, for which driver, and since when."""

from collections.abc import Sequence
from time import time
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.errors import ConfigurationError
from app.journal.entries import Lag
from app.journal.tables import deliveries, entries


def waiting() -> Select[Any]:
    """For each wrapping driver and each driver that it delivers to, what `lags` reads."""
    return (
        select(
            entries.c.wrapper,
            deliveries.c.target,
            func.count(),
            func.min(entries.c.created_at),
            func.count().filter(deliveries.c.dead_letter),
        )
        .join(entries, entries.c.seq == deliveries.c.seq)
        .group_by(entries.c.wrapper, deliveries.c.target)
        .order_by(entries.c.wrapper, deliveries.c.target)
    )


def lags(rows: Sequence[Any]) -> dict[tuple[str, str], Lag]:
    """The rows of `waiting`, by wrapping driver and driver."""
    now = time()
    return {
        (wrapper, target): Lag(count, round(max(0.0, now - oldest), 3), dead)
        for wrapper, target, count, oldest, dead in rows
    }


async def refuse_stranded(
    connection: AsyncConnection, wrapper: str, drivers: Sequence[str]
) -> None:
    """Raise `ConfigurationError` when writes are pending for a driver not among `drivers`."""
    mine = waiting().where(entries.c.wrapper == wrapper, deliveries.c.target.not_in(drivers))
    found = lags((await connection.execute(mine)).all())
    if not found:
        return
    said = " and ".join(f"{lag} for '{gone}'" for (_, gone), lag in found.items())
    which, them = ("which is", "it") if len(found) == 1 else ("which are", "them")
    raise ConfigurationError(
        f"drivers.{wrapper}.inner: {said}, {which} not held any more: hold {them} until they are "
        "delivered, or see `memory-driver journal`"
    )
