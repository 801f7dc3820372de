"""Deleting the memories of a user that a filter lets through, on any driver."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from app.core.memory.filter import Filter
from app.core.memory.pages import every_page
from app.core.memory.records import MemoryPage
from app.core.memory.requests import Delete, Page

PIECE: Final = 200
"""Memories that are read, and then deleted, at once."""
_MILLISECOND = timedelta(milliseconds=1)
"""Of `Clock`: what is created later is created that much later at least."""


def created_before(wanted: Filter, moment: datetime) -> Filter:
    """The filter that lets through only what was created before the moment, either."""
    end = wanted.created.end
    end = moment if end is None else min(end, moment)
    return replace(wanted, created=replace(wanted.created, end=end))


async def delete_all(
    wanted: Page,
    read: Callable[[Page], Awaitable[MemoryPage]],
    delete: Callable[[Delete], Awaitable[int]],
    until: datetime,
    now: Callable[[], datetime],
    *,
    dry_run: bool,
) -> int:
    """Delete the memories that `wanted` lists, created at `until` or before; how many there were.

    `read` gives a page and `delete` deletes one; what has expired `now` is none. With `dry_run`
    they are only counted. The list is read again until it has nothing to delete: an update may move
    a memory to where a page was read. Raises `DriverUnavailable` where the list may lack some.
    """
    created = created_before(wanted.filter, until + _MILLISECOND)
    wanted = replace(wanted, filter=created, after=None, limit=PIECE, whole=True)
    count = 0
    while True:
        found = 0
        async for memories in every_page(read, wanted):
            # What is deleted is gone for good, so that nobody's page is believed.
            moment = now()
            ids = tuple(each.memory_id for each in memories if wanted.has(each, moment))
            if dry_run:
                found += len(ids)
            elif ids:
                found += await delete(Delete("memory", ids, wanted.user_id))
        count += found
        if dry_run or not found:
            return count
