"""The reference driver: its verbs."""

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from datetime import datetime
from typing import Any, Self, TypeVar, cast
from uuid import UUID

import numpy as np

from app.core.memory.base import DriverContext, DriverHealth
from app.core.memory.cursor import user_page
from app.core.memory.derived import Derived
from app.core.memory.embedded import text_of
from app.core.memory.once import repeated
from app.core.memory.querying import check_language, query_of
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
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
from app.core.memory.reembedding import Reembedding
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
from app.drivers.inmemory.place import Place
from app.drivers.inmemory.places import Places
from app.drivers.inmemory.reembedding import InMemoryReembedding, how_far
from app.embedding import Embedder, Model, Vector
from app.pieces import in_pieces
from app.ranking.candidates import Candidates
from app.ranking.evidence import weigh
from app.ranking.ranked import Found, best, best_by_words, cosines, likeliest
from app.ranking.scope import within
from app.ranking.similarity import nearest
from app.reranking import Reranking
from app.settings import Limits, RecallSettings

Made = TypeVar("Made")


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
        self._reranked = Reranked(reranking)
        self._settings = recall or RecallSettings()
        check_language(self._settings.language)
        self._places = Places(embedder, self._settings.language)
        self._expiring: list[tuple[datetime, str, str]] = []
        """A heap: when to look at which record, by its owner, "" for knowledge, and its id."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(context.embedder, settings.limits, settings.recall, reranking=context.reranking)

    async def open(self) -> None:
        await self._places.now.embedder.open()
        await self._reranked.open()

    def reembedding(self, embedder: Embedder) -> Reembedding:
        return InMemoryReembedding(self._places, embedder)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is None:
            newest = self._newest_first(wanted)
            return await in_pieces(deepcopy, newest[: wanted.top_k])
        query, place = query_of(wanted, self._settings, self._settings.language), self._places.now
        if not wanted.use_vector:
            own, candidates, _ = await self._candidates(place, wanted)
            found = await asyncio.to_thread(best_by_words, query, candidates, wanted.top_k)
        else:
            question = await place.embedder.embed_question(wanted.query)
            own, candidates, vectors = await self._candidates(place, wanted)
            evidence = await asyncio.to_thread(weigh, query, candidates)
            rows = likeliest(evidence, candidates, question, wanted.top_k)
            near = cosines(candidates, rows, vectors, question)
            found = best(evidence, candidates, rows, near, wanted.top_k, explain=wanted.explain)
        keys = candidates.keys(np.array([one.row for one in found], np.intp))
        pairs = ((own.get(str(UUID(bytes=key))), one) for key, one in zip(keys, found, strict=True))
        there = [(memory, one) for memory, one in pairs if memory is not None]
        return await in_pieces(lambda pair: _recalled(*pair), there)

    async def _candidates(
        self, place: Place, wanted: Recall
    ) -> tuple[dict[str, Memory], Candidates, Vector]:
        """The user's memories of this moment, those of the scope, and the vectors they count."""
        own, candidates, vectors = await place.candidates(wanted.user_id)
        admitted = None
        if wanted.filter:
            keys = candidates.keys(np.arange(len(candidates)))
            lets = [wanted.filter.lets(own[str(UUID(bytes=key))]) for key in keys]
            admitted = np.array(lets, np.bool_)
        scope = within(candidates, self._now(), wanted.conversation_id, admitted)
        return own, scope, vectors

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        place = self._places.now
        question = await place.embedder.embed_question(wanted.query)
        now = self._now()
        found = [record for record in place.knowledge.values() if wanted.has(record, now)]
        newest_first = sorted(found, key=lambda k: (k.created_at, k.knowledge_id), reverse=True)
        scored = [
            (nearest(question, place.vectors[key_of(knowledge)]), knowledge)
            for knowledge in newest_first
        ]
        best = sorted(scored, key=lambda pair: pair[0], reverse=True)[: wanted.top_k]
        return await in_pieces(lambda pair: replace(deepcopy(pair[1]), score=pair[0]), best)

    def _newest_first(self, wanted: Recall) -> list[Memory]:
        memories, now = self._places.now.memories.get(wanted.user_id, {}).values(), self._now()
        found = (memory for memory in memories if wanted.has(memory, now))
        return sorted(found, key=newest, reverse=True)

    async def _get(self, wanted: Get) -> Record | None:
        found = self._find(wanted)
        return deepcopy(found) if found is not None and self._is_alive(found) else None

    def _is_alive(self, record: Record) -> bool:
        return is_alive(record, self._now())

    def _find(self, wanted: Get) -> Record | None:
        if wanted.kind == "knowledge":
            return self._places.now.knowledge.get(wanted.record_id)
        users = [wanted.user_id] if wanted.user_id is not None else self._places.now.memories
        own = (self._places.now.memories.get(user, {}).get(wanted.record_id) for user in users)
        return next((memory for memory in own if memory is not None), None)

    async def _page(self, wanted: Page) -> MemoryPage:
        own, now = self._places.now.memories.get(wanted.user_id, {}).values(), self._now()
        listed = _following(wanted, (memory for memory in own if wanted.has(memory, now)))
        return wanted.of(await in_pieces(deepcopy, listed))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        now = self._now()
        found = (
            record for record in self._places.now.knowledge.values() if wanted.has(record, now)
        )
        return wanted.of(await in_pieces(deepcopy, _following(wanted, found)))

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        users = sorted(filter(wanted.has, self._places.now.memories))
        owners = [*users, None] if wanted.knowledge else users
        for owner in owners:
            own: Mapping[str, Record] = (
                self._places.now.knowledge
                if owner is None
                else self._places.now.memories.get(owner, {})
            )
            for record in [*own.values()]:
                if self._is_alive(record):
                    yield deepcopy(record)

    async def _model(self) -> Model | None:
        return await self._places.now.model()

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        place = self._places.now
        return [await place.derived(record) for record in records]

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        self.sweep()
        if wanted.once:
            return await self._keep_once(wanted.records)
        kept = await in_pieces(deepcopy, wanted.records)

        async def keep(place: Place) -> list[Derived]:
            given = wanted.given(await place.model()) if wanted.derived else {}
            new = [record for record in kept if version_of(record) not in given]
            made = await place.embedded(new)
            derived = dict(given) | dict(zip(map(version_of, new), made, strict=True))
            return [derived[version_of(record)] for record in kept]

        async with self._embedded(keep) as derived:
            self._merge(kept, derived)
        return wanted.records

    @asynccontextmanager
    async def _embedded(self, make: Callable[[Place], Awaitable[Made]]) -> AsyncIterator[Made]:
        """What is made for the place in use, which stays in use in the block.

        Where another one comes into use before the block, it is made again.
        """
        while True:
            place = self._places.now
            made = await make(place)
            async with self._places.unchanged(place) as is_same:
                if is_same:
                    yield made
                    return

    def _merge(self, records: Sequence[Record], derived: Sequence[Derived]) -> None:
        for record, own in zip(records, derived, strict=True):
            there = self._there(record)
            if there is None or there.updated_at < record.updated_at:
                self._insert(record, own)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        kept = await in_pieces(deepcopy, wanted.records)
        async with self._embedded(lambda place: place.embedded(kept)) as derived:
            # From here on nothing is awaited: a reader sees all of it or nothing.
            there = [record for record in self._places.now.all() if wanted.is_of(record)]
            others = [record for record in there if wanted.replaces(record)]
            for record in others:
                self._places.remove(record)
            if not any(wanted.comes_before(record) for record in there):
                self._merge(kept, derived)
        return wanted.records, sum(map(self._is_alive, others))

    async def _keep_once(self, records: Sequence[Kept]) -> Sequence[Kept]:

        async def make(place: Place) -> dict[int, Derived]:
            there = self._repeated(records)
            new = [n for n in range(len(records)) if n not in there]
            made = await place.embedded([records[n] for n in new])
            return dict(zip(new, made, strict=True))

        while True:
            async with self._embedded(make) as derived:
                there = self._repeated(records)
                new = [n for n in range(len(records)) if n not in there]
                if derived.keys() >= set(new):  # else what was there has gone meanwhile
                    for n in new:
                        self._insert(deepcopy(records[n]), derived[n])
                    return [there.get(n, record) for n, record in enumerate(records)]

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

        async def make(place: Place) -> Derived | None:
            there = place.at(key_of(record))
            if there is None or there.updated_at != wanted.over:
                return None
            if text_of(there) == text_of(record):
                return Derived(place.vectors[key_of(record)])
            return (await place.embedded([record]))[0]

        async with self._embedded(make) as own:
            there = self._there(record)  # others may have been quicker
            if own is None or there is None or there.updated_at != wanted.over:
                return False
            self._insert(record, own)
            return True

    def _there(self, record: Record) -> Record | None:
        """What is kept under the record's id."""
        return self._places.now.at(key_of(record))

    def sweep(self) -> int:
        """Delete all that `records.deletable_from` names by now; how many records that were.

        Writes do it, and whoever looks at the driver's health.
        """
        now, total = self._now(), 0
        while self._expiring and self._expiring[0][0] <= now:
            _, user_id, one = heapq.heappop(self._expiring)
            record = self._places.now.at((user_id or None, one))
            over = None if record is None else deletable_from(record)
            if record is not None and over is not None and over <= now:
                self._places.remove(record)
                total += 1
        self._swept(total)
        return total

    def _insert(self, record: Record, derived: Derived) -> None:
        over = deletable_from(record)
        if over is not None:
            user_id, one = key_of(record)
            heapq.heappush(self._expiring, (over, user_id or "", one))
        self._places.insert(record, derived)

    async def _delete(self, wanted: Delete) -> int:
        found = [self._find(Get(wanted.kind, each, wanted.user_id)) for each in wanted.ids]
        return self._removed([record for record in found if record is not None])

    def _removed(self, records: Sequence[Record]) -> int:
        """Remove the records; how many of them had not expired."""
        for record in records:
            self._places.remove(record)
        return sum(map(self._is_alive, records))

    async def _forget(self, wanted: Forget) -> int:
        own = self._places.now.memories.get(wanted.user_id, {})
        return self._removed([memory for memory in own.values() if wanted.reaches(memory)])

    async def _users(self, wanted: Users) -> UserPage:
        counts = [
            UserCount(
                user_id, sum(map(self._is_alive, self._places.now.memories[user_id].values()))
            )
            for user_id in sorted(filter(wanted.has, self._places.now.memories))
        ]
        return user_page([user for user in counts if user.memories], wanted.limit)

    async def health_check(self) -> DriverHealth:
        self.sweep()
        memories = (memory for own in self._places.now.memories.values() for memory in own.values())
        facts: dict[str, Any] = {
            "memories": sum(map(self._is_alive, memories)),
            "knowledge": sum(map(self._is_alive, self._places.now.knowledge.values())),
        }
        coming, count = self._places.next, how_far(self._places)
        if coming is not None and count is not None:
            told = {"model": coming.embedder.name, "records": count.records, "done": count.done}
            facts["reembedding"] = told
        return self._reranked.health(DriverHealth(driver=self.name, status="ok", facts=facts))


def _following(wanted: Listing, records: Iterable[Kept]) -> list[Kept]:
    """Those of the records that the page has, and one more."""
    later = [record for record in records if wanted.comes_after(record, wanted.after)]
    return wanted.in_order(later)[: wanted.limit + 1]


def _recalled(memory: Memory, found: Found) -> Memory:
    return replace(deepcopy(memory), score=found.score, explanation=found.explanation)
