"""The reference driver: everything in this process, nothing kept when it ends."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Self

from app.core.memory.base import DriverContext, DriverHealth
from app.core.memory.cursor import Cursor, page
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Kept, Key, Knowledge, Memory, MemoryPage, Record, key_of
from app.core.memory.requests import (
    Delete,
    Forget,
    Get,
    Keep,
    Page,
    Recall,
    RecallKnowledge,
    Replace,
)
from app.embedding import Embedder, Vector
from app.pieces import in_pieces
from app.ranking.similarity import similarity
from app.ranking.words import share, words
from app.settings import Limits


class InMemoryDriver(RecordDriver):
    """Exact search over Python dictionaries: for trying the API out, and as the tests' yardstick.

    `score` is (1 + cosine) / 2 by vector, and the share of the query's words by `use_vector=False`.
    """

    name = "inmemory"

    def __init__(self, embedder: Embedder, limits: Limits) -> None:
        super().__init__(limits)
        self._embedder = embedder
        self._memories: dict[str, dict[str, Memory]] = {}
        self._knowledge: dict[str, Knowledge] = {}
        self._vectors: dict[Key, Vector] = {}

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        return cls(context.embedder, context.settings.limits)

    async def open(self) -> None:
        await self._embedder.open()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        query, vector = wanted.query, None
        if query is not None and wanted.use_vector:
            vector = await self._embedder.embed_query(query)
        found = [
            memory
            for memory in self._newest_first(wanted.user_id, wanted.conversation_id)
            if not set(memory.tags).intersection(wanted.exclude_tags)
        ]
        if query is None:
            return await in_pieces(deepcopy, found[: wanted.top_k])
        if vector is not None:
            scored = [
                (similarity(vector, self._vectors[key_of(memory)]), memory) for memory in found
            ]
        else:
            scored = await asyncio.to_thread(_by_words, query, found)
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[: wanted.top_k]
        return await in_pieces(lambda pair: replace(deepcopy(pair[1]), score=pair[0]), best)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        vector = await self._embedder.embed_query(wanted.query)
        newest_first = sorted(self._knowledge.values(), key=lambda k: k.knowledge_id, reverse=True)
        scored = [
            (similarity(vector, self._vectors[key_of(knowledge)]), knowledge)
            for knowledge in newest_first
            if wanted.category in (None, knowledge.category)
        ]
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[: wanted.top_k]
        return await in_pieces(lambda pair: replace(deepcopy(pair[1]), score=pair[0]), best)

    def _newest_first(self, user_id: str, conversation_id: str | None) -> list[Memory]:
        memories = self._memories.get(user_id, {}).values()
        return sorted(
            (m for m in memories if conversation_id in (None, m.conversation_id)),
            key=Cursor.after,
            reverse=True,
        )

    async def _get(self, wanted: Get) -> Record | None:
        return deepcopy(self._find(wanted))

    def _find(self, wanted: Get | Delete) -> Record | None:
        if wanted.kind == "knowledge":
            return self._knowledge.get(wanted.record_id)
        users = [wanted.user_id] if wanted.user_id is not None else self._memories
        own = (self._memories.get(user, {}).get(wanted.record_id) for user in users)
        return next((memory for memory in own if memory is not None), None)

    async def _page(self, wanted: Page) -> MemoryPage:
        memories = self._newest_first(wanted.user_id, wanted.conversation_id)
        if wanted.after is not None:
            memories = [memory for memory in memories if Cursor.after(memory) < wanted.after]
        return page(await in_pieces(deepcopy, memories[: wanted.limit + 1]), wanted.limit)

    async def _export(self) -> AsyncIterator[Record]:
        memories = [memory for own in self._memories.values() for memory in own.values()]
        records: list[Record] = [*memories, *self._knowledge.values()]
        for record in records:
            yield deepcopy(record)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        kept = await in_pieces(deepcopy, wanted.records)
        vectors = await self._embedder.embed([record.content for record in kept])
        for record, vector in zip(kept, vectors, strict=True):
            there = self._there(record)
            if there is None or there.updated_at < record.updated_at:
                self._put(record, vector)
        return wanted.records

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        record = deepcopy(wanted.record)
        there = self._there(record)
        if there is None or there.updated_at != wanted.over:
            return False
        if there.content == record.content:
            vector = self._vectors[key_of(record)]
        else:
            (vector,) = await self._embedder.embed([record.content])
            there = self._there(record)  # others may have been quicker
            if there is None or there.updated_at != wanted.over:
                return False
        self._put(record, vector)
        return True

    def _there(self, record: Record) -> Record | None:
        """What is kept under the record's id."""
        if isinstance(record, Memory):
            return self._memories.get(record.user_id, {}).get(record.memory_id)
        return self._knowledge.get(record.knowledge_id)

    def _put(self, record: Record, vector: Vector) -> None:
        self._vectors[key_of(record)] = vector
        if isinstance(record, Memory):
            self._memories.setdefault(record.user_id, {})[record.memory_id] = record
        else:
            self._knowledge[record.knowledge_id] = record

    async def _delete(self, wanted: Delete) -> bool:
        found = self._find(wanted)
        if found is None:
            return False
        if isinstance(found, Memory):
            del self._memories[found.user_id][found.memory_id]
        else:
            del self._knowledge[found.knowledge_id]
        del self._vectors[key_of(found)]
        return True

    async def _forget(self, wanted: Forget) -> int:
        own = self._memories.get(wanted.user_id, {})
        gone = [memory for memory in own.values() if wanted.reaches(memory)]
        for memory in gone:
            del own[memory.memory_id], self._vectors[key_of(memory)]
        if not own:
            self._memories.pop(wanted.user_id, None)
        return len(gone)

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
