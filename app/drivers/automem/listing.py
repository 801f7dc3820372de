"""Pages of a scope, on a backend that pages by number."""

from collections import OrderedDict

from app.core.memory.cursor import Cursor, cut
from app.core.memory.records import Memory, MemoryPage, Record
from app.drivers.automem.scope import PAGE, Scope
from app.drivers.automem.search import Search, Wanted

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

    async def page(
        self, scope: Scope, end: Cursor | None, limit: int, wanted: Wanted, *, all_wanted: bool
    ) -> MemoryPage:
        """The `limit` wanted memories that follow the `end` of another page, newest first.

        `all_wanted`: hardly any is not, so that AutoMem need not be asked for many at once.
        """

        def follows(record: Record) -> bool:
            older = end is None or (isinstance(record, Memory) and Cursor.after(record) < end)
            return older and wanted(record)

        start, until, size = 0, None, PAGE
        if end is not None:
            start = max(0, self._places.get((scope.tag, end), 0) - _BACK)
            until = end.occurred_at
        elif all_wanted:
            size = limit + 1 + _SPARE
        rows = await self._search.newest(scope, limit + 1, follows, size, start, until)
        found = [row.record for row in rows if isinstance(row.record, Memory)]
        answer = MemoryPage(*cut(found, limit, Cursor.after))
        # What other clients stored is not in the order of time.
        if answer.next_cursor is not None and scope.legacy_tag is None:
            self._remember((scope.tag, Cursor.after(answer.memories[-1])), rows[limit - 1].place)
        return answer

    def _remember(self, key: tuple[str, Cursor], place: int) -> None:
        self._places[key] = place
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
