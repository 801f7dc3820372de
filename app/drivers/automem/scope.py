"""Which of AutoMem's memories a call may see, and how they are read page by page."""

from collections.abc import AsyncIterator, Mapping, Sized
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from app.core.memory.records import Knowledge
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.mapping import (
    SPREAD,
    Row,
    Tags,
    from_automem,
    legacy_from_automem,
)
from app.drivers.automem.versions import Latest
from app.errors import DriverError

PAGE = 200
"""The most that AutoMem gives of one tag at once."""
_OVERLAP = 10
"""Memories that a page repeats of the one before: others may change what is there meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A user, one of their conversations, knowledge, a category or a document of it, or everything.

    AutoMem is asked for the narrowest tag; what it answers is still read through `read`, which
    gives back only what belongs here. `legacy_tag` adds what other clients stored for the user.
    """

    tag: str
    user_id: str | None = None
    conversation_id: str | None = None
    category: str | None = None
    doc_id: str | None = None
    legacy_tag: str | None = None
    everything: bool = False

    @property
    def tags(self) -> list[tuple[str, str | int]]:
        """The query parameters that select the scope: any of these tags."""
        tags = [self.tag] if self.legacy_tag is None else [self.tag, self.legacy_tag]
        return [("tags", tag) for tag in tags]

    def read(self, memory: object, automem_id: object) -> Row | None:
        """The record in AutoMem's `memory`, if it is one of this scope."""
        row = self.parse(memory, automem_id)
        return row if row is not None and self.has(row) else None

    def parse(self, memory: object, automem_id: object) -> Row | None:
        """The record in AutoMem's `memory`, of this scope or not."""
        if not isinstance(memory, Mapping):
            return None
        row = from_automem(memory, automem_id)
        if row is None and self.legacy_tag is not None and self.user_id is not None:
            return legacy_from_automem(memory, automem_id, self.user_id, self.legacy_tag)
        return row

    def has(self, row: Row) -> bool:
        """Whether the record is of this scope."""
        record = row.record
        if self.everything:
            return True
        if isinstance(record, Knowledge):
            return (
                self.user_id is None
                and self.category in (None, record.category)
                and self.doc_id in (None, record.doc_id)
            )
        return record.user_id == self.user_id and (
            self.conversation_id is None or record.conversation_id == self.conversation_id
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What one call gave: AutoMem's ids, the records that it read, and whether more follow.

    A record may be outside of the scope: what was moved from there may have its tag for a while.
    """

    ids: list[str]
    rows: list[Row]
    more: bool

    @property
    def count(self) -> int:
        return len(self.ids)

    @property
    def first(self) -> datetime | None:
        """AutoMem's time of the first record of this service."""
        return next((row.at for row in self.rows if _is_ours(row)), None)

    @property
    def last(self) -> datetime | None:
        """AutoMem's time of the last one: AutoMem has them in this order."""
        return next((row.at for row in reversed(self.rows) if _is_ours(row)), None)


def memory_scope(
    tags: Tags, user_id: str, conversation_id: str | None = None, legacy: str | None = None
) -> Scope:
    """The scope of a user or of one of their conversations; only the former has legacy memories."""
    if conversation_id is not None:
        tag = tags.conversation(user_id, conversation_id)
        return Scope(tag=tag, user_id=user_id, conversation_id=conversation_id)
    legacy_tag = legacy.replace("{user_id}", user_id) if legacy is not None else None
    return Scope(tag=tags.user(user_id), user_id=user_id, legacy_tag=legacy_tag)


def knowledge_scope(tags: Tags, category: str | None = None, doc_id: str | None = None) -> Scope:
    """The scope of all knowledge, or of one category, or of one document."""
    tag = tags.knowledge
    if doc_id is not None:
        tag = tags.document(doc_id)
    elif category is not None:
        tag = tags.category(category)
    return Scope(tag=tag, category=category, doc_id=doc_id)


def whole_scope(tags: Tags) -> Scope:
    """Everything that this service stored."""
    return Scope(tag=tags.everything, everything=True)


async def read_page(client: AutomemClient, scope: Scope, limit: int, offset: int) -> Page:
    """One page of the scope, in AutoMem's order: newest first for what this service stored."""
    query = [*scope.tags, ("limit", limit), ("offset", offset)]
    answer = await client.get("/memory/by-tag", query)
    memories = listed(answer, "memories")
    read = [scope.parse(memory, dict_of(memory).get("id")) for memory in memories]
    rows = [replace(row, place=offset + n) for n, row in enumerate(read) if row is not None]
    ids = [str(dict_of(memory).get("id")) for memory in memories]
    return Page(ids=ids, rows=rows, more=more_follow(answer, memories, limit))


async def read_all(
    client: AutomemClient,
    scope: Scope,
    size: int = PAGE,
    start: int = 0,
    end: datetime | None = None,
) -> AsyncIterator[list[Row]]:
    """The scope's records, each once in its latest version; none that follows is newer.

    Reads `size` memories, then page by page, and gives a record when AutoMem has told all down to
    the record's own time: there its latest version is. AutoMem orders memories of one time by its
    own ids, so that the last time of a page is not complete. It starts at the number `start` if
    what is there is newer than `end`, else at 0.

    What others delete moves the rest up: a page that does not begin with something of the page
    before is read again, farther up, so that nothing is passed by.
    """
    latest = Latest()
    before: set[str] = set()
    offset, more, back = start, True, PAGE
    while more:
        page = await read_page(client, scope, min(size, PAGE), offset)
        if 0 < offset == start and not before and not _starts_after(page, end):
            offset = start = 0
            continue
        if offset > 0 and before and before.isdisjoint(page.ids[:1]):
            offset, back = max(0, offset - back), 2 * back
            continue
        before, size, back = set(page.ids), PAGE, PAGE
        offset, more = offset + page.count - min(_OVERLAP, page.count // 2), page.more
        latest.add(page.rows)
        if not more:
            yield [row for row in latest.take() if scope.has(row)]
        elif page.last is not None:
            yield [row for row in latest.take(page.last) if scope.has(row)]


def _starts_after(page: Page, end: datetime | None) -> bool:
    return page.first is not None and end is not None and page.first >= end + SPREAD


def _is_ours(row: Row) -> bool:
    """Whether this service stored it: another client's memory has AutoMem's own id."""
    return row.record_id != row.automem_id


def more_follow(answer: Mapping[str, Any], memories: Sized, limit: int) -> bool:
    """Whether AutoMem has more than the memories of this answer, of at most `limit`."""
    return len(memories) > 0 and answer.get("has_more", len(memories) >= limit) is not False


def listed(answer: Mapping[str, Any], name: str) -> list[Any]:
    """The list of that name in an answer."""
    found = answer.get(name)
    if not isinstance(found, list):
        raise DriverError(reason=f"AutoMem's answer has no list {name!r}")
    return found


def dict_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
