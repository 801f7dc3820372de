"""All that a list has, a page at a time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from app.core.memory.cursor import cut
from app.core.memory.records import Kept, KnowledgePage, Memory, MemoryPage
from app.core.memory.requests import Listing, Page, PageKnowledge, Put

Listed = TypeVar("Listed", bound=Listing)

_AT_ONCE = 100
_READS = 100


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


async def filled(
    wanted: Listed, read: Callable[[Listed], Awaitable[tuple[list[Kept], str | None]]]
) -> tuple[list[Kept], str | None]:
    """The records of the page, `limit` of them where the list has so many, and its cursor.

    `read` gives the records of a page and its cursor; it may give fewer before the last page. After
    `_READS` such pages this one is as short as it is by then.
    """
    records, cursor = await read(wanted)
    for _ in range(_READS):
        if cursor is None or len(records) >= wanted.limit:
            break
        after, limit = wanted.read_cursor(cursor), max(_AT_ONCE, wanted.limit)
        more, cursor = await read(replace(wanted, after=after, limit=limit))
        records = [*records, *more]
    if len(records) > wanted.limit:
        return cut(records, wanted.limit, wanted.place)
    return records, cursor


async def count_document(
    read_memories: Callable[[Page], Awaitable[MemoryPage]],
    read_knowledge: Callable[[PageKnowledge], Awaitable[KnowledgePage]],
    wanted: Put[Kept],
) -> int:
    """How many records the put's document has; the callables give pages."""
    if wanted.user_id is not None:
        own = Page(user_id=wanted.user_id, doc_id=wanted.doc_id, limit=_AT_ONCE)
        return sum([len(memories) async for memories in every_page(read_memories, own)])
    page, count = PageKnowledge(doc_id=wanted.doc_id, limit=_AT_ONCE), 0
    while True:
        found = await read_knowledge(page)
        count += len(found.knowledge)
        if found.next_cursor is None:
            return count
        page = replace(page, after=page.read_cursor(found.next_cursor))
