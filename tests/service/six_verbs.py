"""A driver with only the six verbs, as someone outside this project would write one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.records import Knowledge, Memory


class SixVerbs(BaseMemoryDriver):
    """Finds what holds the query's text."""

    def __init__(self) -> None:
        self._memories: list[Memory] = []
        self._knowledge: list[Knowledge] = []

    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        found = [
            memory
            for memory in reversed(self._memories)
            if memory.user_id == user_id
            and conversation_id in (None, memory.conversation_id)
            and (query or "") in memory.content
            and not set(exclude_tags or ()) & set(memory.tags)
        ]
        return found[:top_k]

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        found = [k for k in self._knowledge if query in k.content]
        return [k for k in found if category in (None, k.category)][:top_k]

    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Memory:
        memory = Memory(
            memory_id=str(uuid4()),
            user_id=user_id,
            content=content,
            conversation_id=conversation_id,
            tags=list(tags or ()),
            metadata=dict(metadata or {}),
            created_at=datetime.now(UTC),
        )
        self._memories.append(memory)
        return memory

    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Knowledge:
        knowledge = Knowledge(
            knowledge_id=str(uuid4()),
            content=content,
            category=category,
            title=title,
            doc_id=doc_id,
            metadata=dict(metadata or {}),
            created_at=datetime.now(UTC),
        )
        self._knowledge.append(knowledge)
        return knowledge

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        before = len(self._memories)
        self._memories = [
            memory
            for memory in self._memories
            if memory.memory_id != memory_id or user_id not in (None, memory.user_id)
        ]
        return len(self._memories) < before

    async def health_check(self) -> DriverHealth:
        return DriverHealth(driver=self.name, status="ok")
