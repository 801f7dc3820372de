"""Deletes records that have expired: from that moment on nobody finds them, and they take room."""

from collections.abc import Callable
from datetime import datetime

from app.background import Background
from app.drivers.redis.current import Current, Generation
from app.drivers.redis.layout import after
from app.drivers.redis.scripts import SWEEP

_AT_ONCE = 200


class Sweeper(Background):
    """Deletes them twice a minute, whoever else does: each record is deleted once."""

    failed = "expired_not_deleted"
    every = 30.0

    def __init__(
        self,
        current: Current,
        now: Callable[[], datetime],
        swept: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`now` is the driver's clock; `swept` is told how many records each step deleted."""
        self._current = current
        self._now = now
        self._swept = swept

    async def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were."""
        moment, total, due = after(self._now()), 0, _AT_ONCE

        async def piece(there: Generation) -> tuple[int, int]:
            count, due = await there.database.run(SWEEP, moment, _AT_ONCE)
            return count, due

        while due == _AT_ONCE:
            count, due = await self._current.do(piece)
            self._swept(count)
            total += count
        return total

    async def work(self) -> None:
        await self.sweep()
