"""All of a user's memories that are wanted, a page at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from app.core.memory.cursor import Cursor
from app.core.memory.records import Memory, MemoryPage
from app.core.memory.requests import Page


async def every_page(
    read: Callable[[Page], Awaitable[MemoryPage]], first: Page
) -> AsyncIterator[list[Memory]]:
    """The memories of the `first` page and of those that follow; `read` gives each.

    A page may be empty before the last.
    """
    wanted = first
    while True:
        found = await read(wanted)
        yield found.memories
        if found.next_cursor is None:
            return
        wanted = replace(wanted, after=Cursor.decode(found.next_cursor))
