"""Memories and knowledge in AutoMem: the verbs, over the mapping, the search and the writer."""

from collections.abc import AsyncIterator, Sequence
from typing import Self, TypeVar
from urllib.parse import urlsplit

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.records import (
    Knowledge,
    Memory,
    MemoryPage,
    Metadata,
    NewKnowledge,
    NewMemory,
    check_id,
    check_recall,
    check_recall_knowledge,
    check_scope,
    check_top_k,
    new_knowledge,
    new_knowledge_records,
    new_memories,
    new_memory,
)
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.health import Health
from app.drivers.automem.listing import Listing
from app.drivers.automem.mapping import Row, Stored, Tags
from app.drivers.automem.scope import (
    PAGE,
    Scope,
    dict_of,
    knowledge_scope,
    memory_scope,
    read_all,
    read_page,
    whole_scope,
)
from app.drivers.automem.search import Search, Wanted, everything
from app.drivers.automem.unembedded import Unembedded
from app.drivers.automem.writing import Writer
from app.machine import is_loopback, machine
from app.settings import AutomemSettings, Limits

_SPARE = 5

Kept = TypeVar("Kept", Memory, Knowledge)


class AutomemDriver(BaseMemoryDriver):
    """AutoMem 0.16 or newer, which keeps everyone's memories in one space.

    Isolation is made here: scopes are tags that only this service can make, and the owner of every
    record that comes back is checked. `score` is f / (1 + f), f being AutoMem's `final_score`, and
    1 for the same text. With `use_vector=False` it is the share of the query's words that the
    memory has.
    """

    name = "automem"

    def __init__(self, settings: AutomemSettings, limits: Limits) -> None:
        self._settings = settings
        self._limits = limits
        self._tags = Tags(settings.tag_secret.get_secret_value())
        self._client = AutomemClient(settings)
        self._health = Health(self._client)
        unembedded = Unembedded()
        self._search = Search(self._client, self._tags, unembedded)
        self._writer = Writer(self._client, self._tags, unembedded)
        self._listing = Listing(self._search)

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        return cls(context.settings.automem, context.settings.limits)

    async def open(self) -> None:
        """Check that AutoMem answers and takes the token.

        Raises `DriverUnavailable`, or `ConfigurationError` for a token that AutoMem refuses.
        """
        await self._health.check()

    async def close(self) -> None:
        await self._client.close()

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        check_recall(self._limits, user_id, conversation_id, query, top_k, exclude_tags)
        scope = self._scope(user_id, conversation_id)
        wanted = _without(exclude_tags)
        found: Sequence[Stored]
        if query is None:
            size = top_k + _SPARE if wanted is everything else PAGE
            rows = await self._search.newest(scope, top_k, wanted, size)
            found = [row.record for row in rows]
        elif use_vector:
            found = await self._search.by_meaning(scope, query, top_k, wanted)
        else:
            found = await self._search.by_words(scope, query, top_k, wanted)
        return _only(Memory, found)

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        check_recall_knowledge(self._limits, query, top_k, category)
        scope = knowledge_scope(self._tags, category)
        return _only(Knowledge, await self._search.by_meaning(scope, query, top_k, everything))

    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> Memory:
        new = NewMemory(
            user_id=user_id,
            content=content,
            conversation_id=conversation_id,
            tags=tags,
            metadata=metadata,
        )
        memory = new_memory(new, self._limits)
        await self._writer.keep([memory])
        return memory

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        made = await new_memories(memories, self._limits)
        await self._writer.keep(made)
        return made

    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
    ) -> Knowledge:
        new = NewKnowledge(
            content=content, category=category, title=title, doc_id=doc_id, metadata=metadata
        )
        knowledge = new_knowledge(new, self._limits)
        await self._writer.keep([knowledge])
        return knowledge

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        made = await new_knowledge_records(knowledge, self._limits)
        await self._writer.keep(made)
        return made

    def identity(self) -> frozenset[str]:
        """Its endpoint, and the machine where that is this one."""
        url = self._settings.url
        here = f"@{machine()}" if is_loopback(urlsplit(url).hostname or "") else ""
        return frozenset({f"automem/{url}{here}"})

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        missing = await self._writer.missing(records)
        if missing:
            await self._writer.keep(missing)

    async def owner_of(self, memory_id: str) -> str | None:
        rows = await self._writer.find(str(check_id(memory_id)))
        return next((row.record.user_id for row in rows if isinstance(row.record, Memory)), None)

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        key = str(check_id(memory_id))
        if user_id is not None:
            check_scope(self._limits, user_id)
        rows = [
            row
            for row in await self._writer.find(key)
            if isinstance(row.record, Memory) and user_id in (None, row.record.user_id)
        ]
        if not rows and user_id is not None and self._settings.legacy_writable:
            rows = await self._legacy(key, user_id)
        return await self._writer.delete(rows) > 0

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        check_scope(self._limits, user_id)
        key = str(check_id(memory_id))
        rows = await self._writer.find(key) or await self._legacy(key, user_id)
        for row in rows:
            if isinstance(row.record, Memory) and row.record.user_id == user_id:
                return row.record
        return None

    async def _legacy(self, key: str, user_id: str) -> list[Row]:
        """The other client's memory of AutoMem's id `key`, if there is a legacy scope for it."""
        scope = self._scope(user_id)
        if scope.legacy_tag is None:
            return []
        answer = await self._client.get_if_there(f"/memory/{key}")
        row = scope.read(dict_of(answer).get("memory"), key)
        return [row] if row is not None else []

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        check_scope(self._limits, user_id, conversation_id)
        check_top_k(limit, self._limits, "limit")
        return await self._listing.page(self._scope(user_id, conversation_id), cursor, limit)

    async def delete_user(self, user_id: str) -> int:
        check_scope(self._limits, user_id)
        legacy = self._settings.legacy_tag if self._settings.legacy_writable else None
        scope = memory_scope(self._tags, user_id, legacy=legacy)
        deleted, others, more = 0, 0, True
        while more:
            # What was deleted moves the rest up, so that the next page starts where this one did.
            found = await read_page(self._client, scope, PAGE, others)
            deleted += await self._writer.delete(found.rows)
            others += found.count - len(found.rows)
            more = found.more
        return deleted

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        rows = await self._writer.find(str(check_id(knowledge_id, "knowledge_id")))
        return next((row.record for row in rows if isinstance(row.record, Knowledge)), None)

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        rows = await self._writer.find(str(check_id(knowledge_id, "knowledge_id")))
        return await self._writer.delete(r for r in rows if isinstance(r.record, Knowledge)) > 0

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        seen: set[str] = set()
        async for rows in read_all(self._client, whole_scope(self._tags)):
            for row in rows:
                if row.record_id not in seen:
                    seen.add(row.record_id)
                    yield row.record

    async def health_check(self) -> DriverHealth:
        return await self._health.state(self.name)

    def _scope(self, user_id: str, conversation_id: str | None = None) -> Scope:
        return memory_scope(self._tags, user_id, conversation_id, self._settings.legacy_tag)


def _without(exclude_tags: Sequence[str] | None) -> Wanted:
    """Want what has none of these tags, by exact equality."""
    excluded = set(exclude_tags or ())
    if not excluded:
        return everything
    return lambda record: not isinstance(record, Memory) or excluded.isdisjoint(record.tags)


def _only(kind: type[Kept], records: Sequence[Stored]) -> list[Kept]:
    """The records of that kind: a scope gives no others."""
    return [record for record in records if isinstance(record, kind)]
