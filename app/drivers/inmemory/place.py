"""Records with the vectors of one model, in dictionaries."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import numpy as np

from app.core.memory.derived import Derived, outline_of
from app.core.memory.embedded import text_and_name
from app.core.memory.records import Key, Knowledge, Memory, Record, key_of
from app.embedding import Embedder, Model, Vector
from app.ranking.candidates import Candidates
from app.ranking.outlines import signs_of, unpacked_each


class Place:
    """What is kept, and the embedder that its vectors are of. No change awaits anything."""

    def __init__(self, embedder: Embedder, language: str) -> None:
        self.embedder = embedder
        self.memories: dict[str, dict[str, Memory]] = {}
        self.knowledge: dict[str, Knowledge] = {}
        self.vectors: dict[Key, Vector] = {}
        """Of each record those of its text's windows, shape (windows, dimension)."""
        self._language = language
        self._model: Model | None = None
        self._outlines: dict[Key, bytes] = {}
        self._columns_of: dict[str, tuple[Candidates, Vector]] = {}
        """By user who was recalled since the last change: what ranking wants, and the vectors."""

    async def model(self) -> Model:
        """The embedder's, which is open."""
        if self._model is None:
            self._model = await Model.of(self.embedder)
        return self._model

    async def embedded(self, records: Sequence[Record]) -> list[Derived]:
        """What is made of each record, but for the outlines."""
        if not records:
            return []
        texts = [text_and_name(record) for record in records]
        return [*map(Derived, await self.embedder.embed_texts(texts))]

    async def derived(self, record: Record) -> Derived | None:
        """What was made of the record, if it is there in that version."""
        key, model = key_of(record), await self.model()
        there = self.at(key)
        if there is None or there.updated_at != record.updated_at:
            return None
        return Derived(self.vectors[key], self._outlines.get(key), self._language, model)

    def at(self, key: Key) -> Record | None:
        """What is kept under the key."""
        user_id, one = key
        if user_id is None:
            return self.knowledge.get(one)
        return self.memories.get(user_id, {}).get(one)

    def all(self) -> list[Record]:
        """Every record."""
        memories = (memory for own in self.memories.values() for memory in own.values())
        return [*memories, *self.knowledge.values()]

    def insert(self, record: Record, derived: Derived) -> None:
        """Keep it in the place of what is under its key."""
        key = key_of(record)
        self.vectors[key] = derived.vectors
        if isinstance(record, Knowledge):
            self.knowledge[record.knowledge_id] = record
            return
        self._columns_of.pop(record.user_id, None)
        outline = derived.outline_in(self._language)
        if outline is None:
            outline = outline_of(record, signs_of(derived.vectors), self._language)
        self._outlines[key] = outline
        self.memories.setdefault(record.user_id, {})[record.memory_id] = record

    def remove(self, key: Key) -> None:
        """Keep nothing under the key any more."""
        user_id, one = key
        if self.vectors.pop(key, None) is None:
            return
        if user_id is None:
            del self.knowledge[one]
            return
        own = self.memories[user_id]
        del own[one], self._outlines[key]
        self._columns_of.pop(user_id, None)
        if not own:
            del self.memories[user_id]

    async def candidates(self, user_id: str) -> tuple[dict[str, Memory], Candidates, Vector]:
        """The user's memories of this moment, all of them as candidates, and their vectors."""
        own = dict(self.memories.get(user_id, {}))
        kept = self._columns_of.get(user_id)
        if kept is None:
            kept = await self._columns(list(own.values()))
            if self.memories.get(user_id, {}) == own:  # else it was changed meanwhile
                self._columns_of[user_id] = kept
        return own, *kept

    async def _columns(self, memories: list[Memory]) -> tuple[Candidates, Vector]:
        keys = [key_of(memory) for memory in memories]
        outlines = [self._outlines[key] for key in keys]
        dimension = self.embedder.dimension
        vectors = [np.zeros((0, dimension), np.float32)]
        vectors += [self.vectors[key] for key in keys]
        ids = [UUID(memory.memory_id).bytes for memory in memories]
        columns = await asyncio.to_thread(unpacked_each, ids, outlines, dimension)
        return columns, np.concatenate(vectors)
