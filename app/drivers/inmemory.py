"""The reference driver: everything in this process, nothing kept when it ends."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Self, cast
from uuid import UUID

import numpy as np

from app.core.memory.base import DriverContext, DriverHealth
from app.core.memory.cursor import user_page
from app.core.memory.derived import Derived, outline_of
from app.core.memory.embedded import text_and_name, text_of
from app.core.memory.once import repeated
from app.core.memory.querying import check_language, query_of
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    UserCount,
    UserPage,
    deletable_from,
    is_alive,
    key_of,
    newest,
    version_of,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Listing,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.core.memory.reranked import Reranked
from app.embedding import Embedder, Model, Vector
from app.pieces import in_pieces
from app.ranking.candidates import Candidates
from app.ranking.evidence import weigh
from app.ranking.outlines import signs_of, unpacked_each
from app.ranking.ranked import Found, best, best_by_words, cosines, likeliest
from app.ranking.scope import within
from app.ranking.similarity import nearest
from app.reranking import Reranking
from app.settings import Limits, RecallSettings


class InMemoryDriver(RecordDriver):
    """Everything in Python dictionaries: for trying the API out, and as the tests' yardstick.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2.
    """

    name = "inmemory"
    explains = True
    weighs_recency = True
    keeps_documents = True

    def __init__(
        self,
        embedder: Embedder,
        limits: Limits,
        recall: RecallSettings | None = None,
        reranking: Reranking | None = None,
    ) -> None:
        super().__init__(limits)
        self._embedder = embedder
        self._reranked = Reranked(reranking)
        self._settings = recall or RecallSettings()
        check_language(self._settings.language)
        self._memories: dict[str, dict[str, Memory]] = {}
        self._knowledge: dict[str, Knowledge] = {}
        self._vectors: dict[Key, Vector] = {}
        """Of each record those of its text's windows, shape (windows, dimension)."""
        self._outlines: dict[Key, bytes] = {}
        self._columns_of: dict[str, tuple[Candidates, Vector]] = {}
        """By user who was recalled since the last change: what ranking wants, and the vectors."""
        self._expiring: list[tuple[datetime, str, str]] = []
        """A heap: when to look at which record, by its owner, "" for knowledge, and its id."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(context.embedder, settings.limits, settings.recall, reranking=context.reranking)

    async def open(self) -> None:
        await self._embedder.open()
        await self._reranked.open()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is None:
            newest = self._newest_first(wanted)
            return await in_pieces(deepcopy, newest[: wanted.top_k])
        query = query_of(wanted, self._settings, self._settings.language)
        if not wanted.use_vector:
            own, candidates, _ = await self._candidates(wanted)
            found = await asyncio.to_thread(best_by_words, query, candidates, wanted.top_k)
        else:
            question = await self._embedder.embed_question(wanted.query)
            own, candidates, vectors = await self._candidates(wanted)
            evidence = await asyncio.to_thread(weigh, query, candidates)
            rows = likeliest(evidence, candidates, question, wanted.top_k)
            near = cosines(candidates, rows, vectors, question)
            found = best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)
        keys = candidates.keys(np.array([one.row for one in found], np.intp))
        pairs = ((own.get(str(UUID(bytes=key))), one) for key, one in zip(keys, found, strict=True))
        there = [(memory, one) for memory, one in pairs if memory is not None]
        return await in_pieces(lambda pair: _recalled(*pair), there)

    async def _candidates(self, wanted: Recall) -> tuple[dict[str, Memory], Candidates, Vector]:
        """The user's memories of this moment, those of the scope, and the vectors they count."""
        own = dict(self._memories.get(wanted.user_id, {}))
        kept = self._columns_of.get(wanted.user_id)
        if kept is None:
            kept = await self._columns(list(own.values()))
            if self._memories.get(wanted.user_id, {}) == own:  # else it was changed meanwhile
                self._columns_of[wanted.user_id] = kept
        candidates, vectors = kept
        admitted = None
        if wanted.filter:
            keys = candidates.keys(np.arange(len(candidates)))
            lets = [wanted.filter.lets(own[str(UUID(bytes=key))]) for key in keys]
            admitted = np.array(lets, np.bool_)
        scope = within(candidates, self._now(), wanted.conversation_id, admitted)
        return own, scope, vectors

    async def _columns(self, memories: list[Memory]) -> tuple[Candidates, Vector]:
        keys = [key_of(memory) for memory in memories]
        outlines = [self._outlines[key] for key in keys]
        vectors = [np.zeros((0, self._embedder.dimension), np.float32)]
        vectors += [self._vectors[key] for key in keys]
        ids = [UUID(memory.memory_id).bytes for memory in memories]
        dimension = self._embedder.dimension
        columns = await asyncio.to_thread(unpacked_each, ids, outlines, dimension)
        return columns, np.concatenate(vectors)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        question = await self._embedder.embed_question(wanted.query)
        now = self._now()
        found = [record for record in self._knowledge.values() if wanted.has(record, now)]
        newest_first = sorted(found, key=lambda k: (k.created_at, k.knowledge_id), reverse=True)
        scored = [
            (nearest(question, self._vectors[key_of(knowledge)]), knowledge)
            for knowledge in newest_first
        ]
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[: wanted.top_k]
        return await in_pieces(lambda pair: replace(deepcopy(pair[1]), score=pair[0]), best)

    def _newest_first(self, wanted: Recall) -> list[Memory]:
        memories, now = self._memories.get(wanted.user_id, {}).values(), self._now()
        found = (memory for memory in memories if wanted.has(memory, now))
        return sorted(found, key=newest, reverse=True)

    async def _get(self, wanted: Get) -> Record | None:
        found = self._find(wanted)
        return deepcopy(found) if found is not None and self._is_alive(found) else None

    def _is_alive(self, record: Record) -> bool:
        return is_alive(record, self._now())

    def _find(self, wanted: Get) -> Record | None:
        if wanted.kind == "knowledge":
            return self._knowledge.get(wanted.record_id)
        users = [wanted.user_id] if wanted.user_id is not None else self._memories
        own = (self._memories.get(user, {}).get(wanted.record_id) for user in users)
        return next((memory for memory in own if memory is not None), None)

    async def _page(self, wanted: Page) -> MemoryPage:
        own, now = self._memories.get(wanted.user_id, {}).values(), self._now()
        listed = _following(wanted, (memory for memory in own if wanted.has(memory, now)))
        return wanted.of(await in_pieces(deepcopy, listed))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        now = self._now()
        found = (record for record in self._knowledge.values() if wanted.has(record, now))
        return wanted.of(await in_pieces(deepcopy, _following(wanted, found)))

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        users = sorted(filter(wanted.has, self._memories))
        owners = [*users, None] if wanted.knowledge else users
        for owner in owners:
            own: Mapping[str, Record] = (
                self._knowledge if owner is None else self._memories.get(owner, {})
            )
            for record in [*own.values()]:
                if self._is_alive(record):
                    yield deepcopy(record)

    async def _model(self) -> Model | None:
        return await Model.of(self._embedder)

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        language = self._settings.language

        def derived(record: Record) -> Derived | None:
            there, key = self._there(record), key_of(record)
            if there is None or there.updated_at != record.updated_at:
                return None
            return Derived(self._vectors[key], self._outlines.get(key), language)

        return [derived(record) for record in records]

    def _all(self) -> list[Record]:
        memories = (memory for own in self._memories.values() for memory in own.values())
        return [*memories, *self._knowledge.values()]

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        self.sweep()
        if wanted.once:
            return await self._keep_once(wanted.records)
        kept = await in_pieces(deepcopy, wanted.records)
        given = wanted.given()
        new = [record for record in kept if version_of(record) not in given]
        made = await self._embedder.embed_texts([text_and_name(record) for record in new])
        derived = dict(given) | dict(zip(map(version_of, new), map(Derived, made), strict=True))
        self._merge(kept, [derived[version_of(record)] for record in kept])
        return wanted.records

    def _merge(self, records: Sequence[Record], derived: Sequence[Derived]) -> None:
        for record, own in zip(records, derived, strict=True):
            there = self._there(record)
            if there is None or there.updated_at < record.updated_at:
                self._insert(record, own)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        kept = await in_pieces(deepcopy, wanted.records)
        vectors: list[Vector] = []
        if kept:
            vectors = await self._embedder.embed_texts([text_and_name(record) for record in kept])
        # From here on nothing is awaited: a reader sees all of it or nothing.
        there = [record for record in self._all() if wanted.is_of(record)]
        others = [record for record in there if wanted.replaces(record)]
        for record in others:
            self._remove(record)
        if not any(wanted.comes_before(record) for record in there):
            self._merge(kept, [*map(Derived, vectors)])
        return wanted.records, sum(map(self._is_alive, others))

    async def _keep_once(self, records: Sequence[Kept]) -> Sequence[Kept]:
        vectors: dict[int, Vector] = {}
        while True:
            there = self._repeated(records)
            new = [place for place in range(len(records)) if place not in there]
            texts = {n: text_and_name(records[n]) for n in new if n not in vectors}
            if not texts:
                break
            made = await self._embedder.embed_texts([*texts.values()])
            vectors |= zip(texts, made, strict=True)  # others may have been quicker: look again
        for place in new:
            self._insert(deepcopy(records[place]), Derived(vectors[place]))
        return [there.get(place, record) for place, record in enumerate(records)]

    def _repeated(self, records: Sequence[Kept]) -> dict[int, Kept]:
        """By the places of the records, what is there already; raises `Conflict`."""
        found: dict[int, Kept] = {}
        for place, record in enumerate(records):
            there = self._there(record)
            if there is not None and self._is_alive(there):
                found[place] = repeated(cast(Kept, deepcopy(there)), record, place)
        return found

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        record = deepcopy(wanted.record)
        there = self._there(record)
        if there is None or there.updated_at != wanted.over:
            return False
        if text_of(there) == text_of(record):
            own = self._vectors[key_of(record)]
        else:
            (own,) = await self._embedder.embed_texts([text_and_name(record)])
            there = self._there(record)  # others may have been quicker
            if there is None or there.updated_at != wanted.over:
                return False
        self._insert(record, Derived(own))
        return True

    def _there(self, record: Record) -> Record | None:
        """What is kept under the record's id."""
        return self._at(key_of(record))

    def _at(self, key: Key) -> Record | None:
        user_id, one = key
        return (
            self._knowledge.get(one)
            if user_id is None
            else self._memories.get(user_id, {}).get(one)
        )

    def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were.

        Writes do it, and whoever looks at the driver's health.
        """
        now, total = self._now(), 0
        while self._expiring and self._expiring[0][0] <= now:
            _, user_id, one = heapq.heappop(self._expiring)
            record = self._at((user_id or None, one))
            over = None if record is None else deletable_from(record)
            if record is not None and over is not None and over <= now:
                self._remove(record)
                total += 1
        self._swept(total)
        return total

    def _insert(self, record: Record, derived: Derived) -> None:
        over = deletable_from(record)
        if over is not None:
            user_id, one = key_of(record)
            heapq.heappush(self._expiring, (over, user_id or "", one))
        self._vectors[key_of(record)] = derived.vectors
        if isinstance(record, Memory):
            self._columns_of.pop(record.user_id, None)
            language = self._settings.language
            outline = derived.outline_in(language)
            if outline is None:
                outline = outline_of(record, signs_of(derived.vectors), language)
            self._outlines[key_of(record)] = outline
            self._memories.setdefault(record.user_id, {})[record.memory_id] = record
        else:
            self._knowledge[record.knowledge_id] = record

    async def _delete(self, wanted: Delete) -> int:
        found = [self._find(Get(wanted.kind, each, wanted.user_id)) for each in wanted.ids]
        return self._removed([record for record in found if record is not None])

    def _removed(self, records: Sequence[Record]) -> int:
        """Remove the records; how many of them had not expired."""
        for record in records:
            self._remove(record)
        return sum(map(self._is_alive, records))

    def _remove(self, record: Record) -> None:
        del self._vectors[key_of(record)]
        if isinstance(record, Knowledge):
            del self._knowledge[record.knowledge_id]
            return
        own = self._memories[record.user_id]
        del own[record.memory_id], self._outlines[key_of(record)]
        self._columns_of.pop(record.user_id, None)
        if not own:
            del self._memories[record.user_id]

    async def _forget(self, wanted: Forget) -> int:
        own = self._memories.get(wanted.user_id, {})
        return self._removed([memory for memory in own.values() if wanted.reaches(memory)])

    async def _users(self, wanted: Users) -> UserPage:
        counts = [
            UserCount(user_id, sum(map(self._is_alive, self._memories[user_id].values())))
            for user_id in sorted(filter(wanted.has, self._memories))
        ]
        return user_page([user for user in counts if user.memories], wanted.limit)

    async def health_check(self) -> DriverHealth:
        self.sweep()
        memories = (memory for own in self._memories.values() for memory in own.values())
        facts = {
            "memories": sum(map(self._is_alive, memories)),
            "knowledge": sum(map(self._is_alive, self._knowledge.values())),
        }
        return self._reranked.health(DriverHealth(driver=self.name, status="ok", facts=facts))


def _following(wanted: Listing, records: Iterable[Kept]) -> list[Kept]:
    """Those of the records that the page has, and one more."""
    later = [record for record in records if wanted.comes_after(record, wanted.after)]
    return wanted.in_order(later)[: wanted.limit + 1]


def _recalled(memory: Memory, found: Found) -> Memory:
    return replace(deepcopy(memory), score=found.score, explanation=found.explanation)
