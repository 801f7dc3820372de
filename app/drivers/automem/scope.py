"""Which of AutoMem's memories a call may see, and how they are read page by page."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from app.core.memory.records import Knowledge
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.mapping import (
    Row,
    Tags,
    from_automem,
    legacy_from_automem,
)
from app.errors import DriverError

PAGE = 200
"""The most that AutoMem gives of one tag at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A user, one of their conversations, knowledge, one category of it, or everything.

    AutoMem is asked for the narrowest tag; what it answers is still read through `read`, which
    gives back only what belongs here. `legacy_tag` adds what other clients stored for the user.
    """

    tag: str
    user_id: str | None = None
    conversation_id: str | None = None
    category: str | None = None
    legacy_tag: str | None = None
    everything: bool = False

    @property
    def tags(self) -> list[tuple[str, str | int]]:
        """The query parameters that select the scope: any of these tags."""
        tags = [self.tag] if self.legacy_tag is None else [self.tag, self.legacy_tag]
        return [("tags", tag) for tag in tags]

    def read(self, memory: object, automem_id: object) -> Row | None:
        """The record in AutoMem's `memory`, if it is one of this scope."""
        if not isinstance(memory, Mapping):
            return None
        row = from_automem(memory, automem_id)
        if row is not None:
            return row if self._has(row) else None
        if self.legacy_tag is not None and self.user_id is not None:
            return legacy_from_automem(memory, automem_id, self.user_id, self.legacy_tag)
        return None

    def read_all_of(self, memories: Iterable[object]) -> list[Row]:
        """The records in an answer's list that are of this scope."""
        read = [self.read(memory, dict_of(memory).get("id")) for memory in memories]
        return [row for row in read if row is not None]

    def _has(self, row: Row) -> bool:
        record = row.record
        if self.everything:
            return True
        if isinstance(record, Knowledge):
            return self.user_id is None and self.category in (None, record.category)
        return record.user_id == self.user_id and (
            self.conversation_id is None or record.conversation_id == self.conversation_id
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What one call gave: how many memories, those that are of the scope, and whether more follow.

    `last` is the row of the last memory, None where that one is not of the scope.
    """

    count: int
    rows: list[Row]
    last: Row | None
    more: bool


def memory_scope(
    tags: Tags, user_id: str, conversation_id: str | None = None, legacy: str | None = None
) -> Scope:
    """The scope of a user or of one of their conversations; only the former has legacy memories."""
    if conversation_id is not None:
        tag = tags.conversation(user_id, conversation_id)
        return Scope(tag=tag, user_id=user_id, conversation_id=conversation_id)
    legacy_tag = legacy.replace("{user_id}", user_id) if legacy is not None else None
    return Scope(tag=tags.user(user_id), user_id=user_id, legacy_tag=legacy_tag)


def knowledge_scope(tags: Tags, category: str | None = None) -> Scope:
    """The scope of all knowledge or of one category."""
    tag = tags.knowledge if category is None else tags.category(category)
    return Scope(tag=tag, category=category)


def whole_scope(tags: Tags) -> Scope:
    """Everything that this service stored."""
    return Scope(tag=tags.everything, everything=True)


async def read_page(client: AutomemClient, scope: Scope, limit: int, offset: int) -> Page:
    """One page of the scope, in AutoMem's order: newest first for what this service stored."""
    query = [*scope.tags, ("limit", limit), ("offset", offset)]
    answer = await client.get("/memory/by-tag", query)
    memories = listed(answer, "memories")
    read = [scope.read(memory, dict_of(memory).get("id")) for memory in memories]
    return Page(
        count=len(memories),
        rows=[row for row in read if row is not None],
        last=read[-1] if read else None,
        more=bool(memories) and answer.get("has_more", len(memories) >= limit) is not False,
    )


async def read_all(client: AutomemClient, scope: Scope) -> AsyncIterator[list[Row]]:
    """The scope's rows, page by page."""
    offset, more = 0, True
    while more:
        page = await read_page(client, scope, PAGE, offset)
        offset, more = offset + page.count, page.more
        yield page.rows


def listed(answer: Mapping[str, Any], name: str) -> list[Any]:
    """The list of that name in an answer."""
    found = answer.get(name)
    if not isinstance(found, list):
        raise DriverError(reason=f"AutoMem's answer has no list {name!r}")
    return found


def dict_of(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
