"""Deleting the memories of a user that a filter lets through, on any driver."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.core.memory.clock import Clock
from app.core.memory.filter import Filter
from app.core.memory.pages import every_page
from app.core.memory.records import MemoryPage
from app.core.memory.requests import Delete, Page

PIECE: Final = 200
"""Memories that are read, and then deleted, at once."""
_MILLISECOND = timedelta(milliseconds=1)
"""Of `Clock`, whose next moment is later than all that was stored before."""


def created_before(wanted: Filter, moment: datetime) -> Filter:
    """The filter that lets through only what was created before the moment, either."""
    end = wanted.created.end
    end = moment if end is None else min(end, moment)
    return replace(wanted, created=replace(wanted.created, end=end))


async def delete_all(
    wanted: Page,
    read: Callable[[Page], Awaitable[MemoryPage]],
    delete: Callable[[Delete], Awaitable[int]],
    clock: Clock,
    *,
    dry_run: bool,
) -> int:
    """Delete the memories that `wanted` lists, and that are there by now; how many there were.

    `read` gives a page and `delete` deletes one. With `dry_run` they are only counted. The list is
    read again until it has nothing to delete: an update may move a memory to where a page was read.
    Raises `DriverUnavailable` where the list may lack some.
    """
    until = created_before(wanted.filter, clock.end_of_now() + _MILLISECOND)
    wanted = replace(wanted, filter=until, after=None, limit=PIECE, whole=True)
    count = 0
    while True:
        found = 0
        async for memories in every_page(read, wanted):
            now = clock.now()
            # What is deleted is gone for good, so that nobody's page is believed.
            ids = tuple(each.memory_id for each in memories if wanted.has(each, now))
            if dry_run:
                found += len(ids)
            elif ids:
                found += await delete(Delete("memory", ids, wanted.user_id))
        count += found
        if dry_run or not found:
            return count
