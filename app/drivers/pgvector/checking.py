"""Asks PostgreSQL whether users changed: in one statement for all who ask while another runs."""

import asyncio
from collections.abc import Sequence

import asyncpg

from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import recall as sql
from app.errors import DriverUnavailable
from app.tasks import end

Asked = tuple[str, str]
"""A user, and the snapshot that the user was read by."""
Waiting = dict[Asked, "asyncio.Future[asyncpg.Record]"]
"""The answers that are waited for; all who ask the same wait for the same."""


class Checking:
    """A statement begins after everybody has asked whom it is for, so no answer is too old."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._waiting: Waiting = {}
        self._asking: asyncio.Task[None] | None = None

    async def stop(self) -> None:
        """End; who still waits gets `DriverUnavailable`."""
        asking, self._asking = self._asking, None
        await end(asking)
        waiting, self._waiting = self._waiting, {}
        _fail(waiting, DriverUnavailable(reason="the driver is closed"))

    async def ask(self, user_id: str, snapshot: str) -> asyncpg.Record:
        """The row of `sql.CHANGED` for the user; raises as the statement does."""
        answer = self._waiting.get((user_id, snapshot))
        if answer is None:
            answer = asyncio.get_running_loop().create_future()
            answer.add_done_callback(_seen)
            self._waiting[user_id, snapshot] = answer
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask_all())
        return await asyncio.shield(answer)

    async def _ask_all(self) -> None:
        while self._waiting:
            waiting, self._waiting = self._waiting, {}
            try:
                async with self._connections.acquire() as connection:
                    rows = await changed(connection, [*waiting])
            except asyncio.CancelledError:
                _fail(waiting, DriverUnavailable(reason="the driver is closed"))
                raise
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                _fail(waiting, error)
                continue
            for answer, row in zip(waiting.values(), rows, strict=True):
                answer.set_result(row)


async def changed(connection: Pooled, asked: Sequence[Asked]) -> Sequence[asyncpg.Record]:
    """For each user and snapshot the row of `sql.CHANGED`."""
    users, snapshots = zip(*asked, strict=True)
    rows: Sequence[asyncpg.Record] = await connection.fetch(sql.CHANGED, users, snapshots)
    return rows


def _fail(waiting: Waiting, error: Exception) -> None:
    for answer in waiting.values():
        answer.set_exception(error)


def _seen(answer: "asyncio.Future[asyncpg.Record]") -> None:
    """Take note of its error, which nobody may wait for any more."""
    answer.exception()
