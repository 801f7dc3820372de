"""Pages of a user's memories, on a backend that pages by number."""

from collections import OrderedDict

from app.core.memory.cursor import Cursor, page
from app.core.memory.records import Memory, MemoryPage, Record
from app.drivers.automem.scope import PAGE, Scope
from app.drivers.automem.search import Search, everything

_SPARE = 5
_BACK = 100
_REMEMBERED = 1_000


class Listing:
    """Follows cursors.

    A cursor is a memory, AutoMem's pages are numbers: without knowing better, a later page costs
    all the earlier ones. The process that gave a cursor remembers about where that was, and starts
    a little before; what was stored or deleted meanwhile does not matter.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._places: OrderedDict[tuple[str, Cursor], int] = OrderedDict()

    async def page(self, scope: Scope, end: Cursor | None, limit: int) -> MemoryPage:
        """The `limit` memories that follow the `end` of another page, newest first."""
        if end is None:
            place = 0
            rows = await self._search.newest(scope, limit + 1, everything, limit + 1 + _SPARE)
        else:
            place = self._places.get((scope.tag, end), 0)

            def older(record: Record) -> bool:
                return isinstance(record, Memory) and Cursor.after(record) < end

            start = max(0, place - _BACK)
            rows = await self._search.newest(scope, limit + 1, older, PAGE, start, end.occurred_at)
        found = [row.record for row in rows if isinstance(row.record, Memory)]
        answer = page(found, limit)
        # What other clients stored is not in the order of time.
        ordered = scope.legacy_tag is None and (end is None or place > 0)
        if answer.next_cursor is not None and ordered:
            self._remember((scope.tag, Cursor.after(answer.memories[-1])), place + limit)
        return answer

    def _remember(self, key: tuple[str, Cursor], place: int) -> None:
        self._places[key] = place
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
