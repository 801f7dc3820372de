"""Pages of a scope, on a backend that pages by number."""

import sys
from collections import OrderedDict
from collections.abc import Sequence

from app.core.memory.cursor import Cursor
from app.core.memory.records import Record
from app.core.memory.requests import Page, PageKnowledge
from app.drivers.automem.scope import PAGE, Scope
from app.drivers.automem.search import Search, Wanted

_SPARE = 5
_BACK = 100
_REMEMBERED = 1_000


class Listing:
    """Follows cursors.

    A cursor is a record, AutoMem's pages are numbers: without knowing better, a later page costs
    all the earlier ones. The process that gave a cursor remembers about where that was, and starts
    a little before; what was stored or deleted meanwhile does not matter.
    """

    def __init__(self, search: Search) -> None:
        self._search = search
        self._places: OrderedDict[tuple[str, Cursor], int] = OrderedDict()

    async def page(
        self, scope: Scope, asked: Page | PageKnowledge, wanted: Wanted
    ) -> Sequence[Record]:
        """The `wanted` records of the page, and one more where there is one, in their order.

        AutoMem knows no order but that of time: a document is read as a whole.
        """

        def follows(record: Record) -> bool:
            return asked.comes_after(record, asked.after) and wanted(record)

        if asked.doc_id is not None:
            rows = await self._search.newest(scope, sys.maxsize, follows, PAGE)
            return asked.in_order([row.record for row in rows])[: asked.limit + 1]
        start, until, size = 0, None, PAGE
        if isinstance(asked.after, Cursor):
            start = max(0, self._places.get((scope.tag, asked.after), 0) - _BACK)
            until = asked.after.occurred_at
        elif not asked.filter:  # hardly any is not wanted: AutoMem need not be asked for many
            size = asked.limit + 1 + _SPARE
        rows = await self._search.newest(scope, asked.limit + 1, follows, size, start, until)
        # What other clients stored is not in the order of time.
        if len(rows) > asked.limit and scope.legacy_tag is None:
            last = rows[asked.limit - 1]
            self._remember((scope.tag, Cursor.after(last.record)), last.place)
        return [row.record for row in rows]

    def _remember(self, key: tuple[str, Cursor], place: int) -> None:
        self._places[key] = place
        while len(self._places) > _REMEMBERED:
            self._places.popitem(last=False)
