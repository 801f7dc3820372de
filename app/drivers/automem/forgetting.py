"""Deleting what a user has, also while others write."""

from collections import defaultdict
from collections.abc import Callable, Iterable

from app.core.memory.records import Memory, Record
from app.core.memory.requests import Forget
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.mapping import Row
from app.drivers.automem.scope import PAGE, Scope, read_page
from app.drivers.automem.writing import Writer, some_at_once
from app.turns import Turns

_PASSES = 20
"""How often a scope is read at most: others would have to move its memories each time."""


class Forgetter:
    """Deletes a scope's memories, as many as there are."""

    def __init__(
        self,
        client: AutomemClient,
        writer: Writer,
        turns: Turns,
        is_alive: Callable[[Record], bool],
    ) -> None:
        self._client = client
        self._writer = writer
        self._turns = turns
        self._is_alive = is_alive

    async def forget(self, scope: Scope, wanted: Forget) -> int:
        """Delete what `wanted` reaches; how many records this call deleted."""
        gone: set[str] = set()
        for _ in range(_PASSES):
            if await self._is_done(scope, wanted, gone):
                break
        return len(gone)

    async def _is_done(self, scope: Scope, wanted: Forget, gone: set[str]) -> bool:
        """Read the scope once and delete; whether that can't have missed a memory.

        Where another service deleted a memory first, it may have put a version on a page that was
        read before. And where newer memories stay, each memory that another service deletes moves
        the later ones up, past the page that is read next.
        """
        offset, missed, deleted, more = 0, False, False, True
        while more:
            page = await read_page(self._client, scope, PAGE, offset)
            reached = [row for row in page.rows if scope.has(row) and _reaches(wanted, row)]
            found = await self._delete(reached)
            gone |= {row.record_id for row in found if self._is_alive(row.record)}
            missed = missed or len(found) < len(reached)
            deleted = deleted or bool(found)
            # What was deleted moves the rest up: the next page starts after those that stay.
            offset, more = offset + page.count - len(found), page.more
            wanted.on_piece()
        return not missed and not (deleted and offset and wanted.before is not None)

    async def _delete(self, rows: Iterable[Row]) -> list[Row]:
        versions: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            versions[row.record_id].append(row)

        async def in_turn(record_id: str) -> list[Row]:
            async with self._turns.of(record_id):
                return await self._writer.delete(versions[record_id])

        return [row for some in await some_at_once(in_turn, versions) for row in some]


def _reaches(wanted: Forget, row: Row) -> bool:
    return isinstance(row.record, Memory) and wanted.reaches(row.record)
