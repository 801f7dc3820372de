"""The reference driver: everything in this process, nothing kept when it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Self

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.cursor import Cursor, page
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
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.similarity import similarity
from app.ranking.words import share, words
from app.settings import Limits


class InMemoryDriver(BaseMemoryDriver):
    """Exact search over Python dictionaries: for trying the API out, and as the tests' yardstick.

    `score` is (1 + cosine) / 2 by vector, and the share of the query's words by `use_vector=False`.
    """

    name = "inmemory"

    def __init__(self, embedder: Embedder, limits: Limits) -> None:
        self._embedder = embedder
        self._limits = limits
        self._memories: dict[str, dict[str, Memory]] = {}
        self._knowledge: dict[str, Knowledge] = {}
        self._vectors: dict[str, Vector] = {}

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        return cls(context.embedder, context.settings.limits)

    async def open(self) -> None:
        await self._embedder.open()

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
        excluded = set(exclude_tags or ())
        vector = None
        if query is not None and use_vector:
            vector = await self._embedder.embed_query(query)
        found = [
            memory
            for memory in self._newest_first(user_id, conversation_id)
            if excluded.isdisjoint(memory.tags)
        ]
        if query is None:
            return deepcopy(found[:top_k])
        if vector is not None:
            scored = [
                (similarity(vector, self._vectors[memory.memory_id]), memory) for memory in found
            ]
        else:
            scored = await asyncio.to_thread(_by_words, query, found)
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[:top_k]
        return [replace(deepcopy(memory), score=score) for score, memory in best]

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        check_recall_knowledge(self._limits, query, top_k, category)
        vector = await self._embedder.embed_query(query)
        newest_first = sorted(self._knowledge.values(), key=lambda k: k.knowledge_id, reverse=True)
        scored = [
            (similarity(vector, self._vectors[knowledge.knowledge_id]), knowledge)
            for knowledge in newest_first
            if category is None or knowledge.category == category
        ]
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[:top_k]
        return [replace(deepcopy(knowledge), score=score) for score, knowledge in best]

    def _newest_first(self, user_id: str, conversation_id: str | None) -> list[Memory]:
        memories = self._memories.get(user_id, {}).values()
        return sorted(
            (
                m
                for m in memories
                if conversation_id is None or m.conversation_id == conversation_id
            ),
            key=Cursor.after,
            reverse=True,
        )

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
        return (await self._keep([new_memory(new, self._limits)]))[0]

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        return await self._keep(await new_memories(memories, self._limits))

    async def _keep(self, memories: list[Memory]) -> list[Memory]:
        vectors = await self._embedder.embed([memory.content for memory in memories])
        for memory, vector in zip(memories, vectors, strict=True):
            self._vectors[memory.memory_id] = vector
            self._memories.setdefault(memory.user_id, {})[memory.memory_id] = memory
        return await in_pieces(deepcopy, memories)

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
        return (await self._keep_knowledge([new_knowledge(new, self._limits)]))[0]

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        return await self._keep_knowledge(await new_knowledge_records(knowledge, self._limits))

    async def _keep_knowledge(self, knowledge: list[Knowledge]) -> list[Knowledge]:
        vectors = await self._embedder.embed([record.content for record in knowledge])
        for record, vector in zip(knowledge, vectors, strict=True):
            self._vectors[record.knowledge_id] = vector
            self._knowledge[record.knowledge_id] = record
        return await in_pieces(deepcopy, knowledge)

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        records = await in_pieces(deepcopy, records)
        vectors = await self._embedder.embed([record.content for record in records])
        for record, vector in zip(records, vectors, strict=True):
            key = record.memory_id if isinstance(record, Memory) else record.knowledge_id
            if key in self._vectors:
                continue
            self._vectors[key] = vector
            if isinstance(record, Memory):
                self._memories.setdefault(record.user_id, {})[key] = record
            else:
                self._knowledge[key] = record

    async def owner_of(self, memory_id: str) -> str | None:
        key = str(check_id(memory_id))
        return next((user for user, own in self._memories.items() if key in own), None)

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        key = str(check_id(memory_id))
        if user_id is not None:
            check_scope(self._limits, user_id)
        users = [user_id] if user_id is not None else list(self._memories)
        for user in users:
            if self._memories.get(user, {}).pop(key, None) is not None:
                del self._vectors[key]
                return True
        return False

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        check_scope(self._limits, user_id)
        return deepcopy(self._memories.get(user_id, {}).get(str(check_id(memory_id))))

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        check_scope(self._limits, user_id, conversation_id)
        check_top_k(limit, self._limits, "limit")
        memories = self._newest_first(user_id, conversation_id)
        if cursor is not None:
            end = Cursor.decode(cursor)
            memories = [memory for memory in memories if Cursor.after(memory) < end]
        return page(deepcopy(memories[: limit + 1]), limit)

    async def delete_user(self, user_id: str) -> int:
        check_scope(self._limits, user_id)
        memories = self._memories.pop(user_id, {})
        for memory_id in memories:
            del self._vectors[memory_id]
        return len(memories)

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        return deepcopy(self._knowledge.get(str(check_id(knowledge_id, "knowledge_id"))))

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        key = str(check_id(knowledge_id, "knowledge_id"))
        if self._knowledge.pop(key, None) is None:
            return False
        del self._vectors[key]
        return True

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        memories = [memory for own in self._memories.values() for memory in own.values()]
        records: list[Memory | Knowledge] = [*memories, *self._knowledge.values()]
        for record in records:
            yield deepcopy(record)

    async def health_check(self) -> DriverHealth:
        facts = {
            "memories": sum(map(len, self._memories.values())),
            "knowledge": len(self._knowledge),
        }
        return DriverHealth(driver=self.name, status="ok", facts=facts)


def _by_words(query: str, memories: list[Memory]) -> list[tuple[float, Memory]]:
    """Those that share a word with the query. Long texts take long: not for the event loop."""
    asked = words(query)
    scored = [(share(asked, memory.content), memory) for memory in memories]
    return [(score, memory) for score, memory in scored if score > 0]
