"""Asks PostgreSQL whether users changed: in one statement for all who ask while another runs."""

import asyncio
from collections.abc import Sequence

import asyncpg

from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import recall as sql
from app.errors import DriverUnavailable
from app.tasks import end

Asked = tuple[str, str, "asyncio.Future[asyncpg.Record]"]
"""A user, the snapshot that the user was read by, and who waits for the answer."""


class Checking:
    """A statement begins after everybody has asked whom it is for, so no answer is too old."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._waiting: list[Asked] = []
        self._asking: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """End; who still waits gets `DriverUnavailable`."""
        asking, self._asking = self._asking, None
        await end(asking)
        waiting, self._waiting = self._waiting, []
        _fail(waiting, DriverUnavailable(reason="the driver is closed"))

    async def ask(self, user_id: str, snapshot: str) -> asyncpg.Record:
        """The row of `sql.CHANGED` for the user; raises as the statement does."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append((user_id, snapshot, answer))
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        found: asyncpg.Record = await answer
        return found

    async def _ask_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            asked = [one for one in waiting if not one[2].done()]  # the others have left
            if not asked:
                continue
            try:
                async with self._connections.acquire() as connection:
                    rows = await changed(connection, [(user, seen) for user, seen, _ in asked])
            except asyncio.CancelledError:
                _fail(asked, DriverUnavailable(reason="the driver is closed"))
                raise
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                _fail(asked, error)
                continue
            for (_, _, answer), row in zip(asked, rows, strict=True):
                if not answer.done():
                    answer.set_result(row)


async def changed(connection: Pooled, asked: Sequence[tuple[str, str]]) -> Sequence[asyncpg.Record]:
    """For each user and snapshot the row of `sql.CHANGED`."""
    users, snapshots = zip(*asked, strict=True)
    rows: Sequence[asyncpg.Record] = await connection.fetch(sql.CHANGED, users, snapshots)
    return rows


def _fail(asked: Sequence[Asked], error: Exception) -> None:
    for _, _, answer in asked:
        if not answer.done():
            answer.set_exception(error)
