"""All that a list has, a page at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from app.core.memory.records import Knowledge, KnowledgePage, Memory, MemoryPage
from app.core.memory.requests import Page, PageKnowledge


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
        wanted = replace(wanted, after=wanted.read_cursor(found.next_cursor))


async def every_page_of_knowledge(
    read: Callable[[PageKnowledge], Awaitable[KnowledgePage]], first: PageKnowledge
) -> AsyncIterator[list[Knowledge]]:
    """The same for knowledge."""
    wanted = first
    while True:
        found = await read(wanted)
        yield found.knowledge
        if found.next_cursor is None:
            return
        wanted = replace(wanted, after=wanted.read_cursor(found.next_cursor))
