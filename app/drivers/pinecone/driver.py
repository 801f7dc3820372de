"""Memories and knowledge in an index of Pinecone, ranked by the service."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from time import monotonic
from typing import Self
from uuid import UUID

from app.core.memory.base import DriverContext, DriverHealth
from app.core.memory.cursor import user_page
from app.core.memory.querying import check_language
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import (
    Kept,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
    UserPage,
    is_alive,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Put,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.core.memory.reranked import Reranked
from app.drivers.pinecone.database import Database
from app.drivers.pinecone.documents import Documents
from app.drivers.pinecone.forgetting import Forgetter
from app.drivers.pinecone.health import Health
from app.drivers.pinecone.index import Index
from app.drivers.pinecone.layout import KNOWLEDGE, Row, hashed
from app.drivers.pinecone.listing import Lists
from app.drivers.pinecone.owners import Owners
from app.drivers.pinecone.puts import Puts
from app.drivers.pinecone.reading import Reading
from app.drivers.pinecone.recall import KnowledgeSearch, RankedRecall
from app.drivers.pinecone.storing import Storing
from app.drivers.pinecone.sweeper import Sweeper
from app.drivers.pinecone.writing import Writing, moment_of
from app.embedding import Embedder
from app.reranking import Reranking
from app.settings import Limits, PineconeSettings, RecallSettings
from app.turns import Turns


class PineconeDriver(RecordDriver):
    """A dense index of Pinecone with the metric cosine, by its API for vectors.

    How memories are ranked, and what `score` is, tells `app/ranking`; knowledge's is
    (1 + cosine) / 2. A batch that takes several requests is undone where one fails.
    """

    name = "pinecone"
    explains = True
    weighs_recency = True
    keeps_documents = True

    def __init__(
        self,
        settings: PineconeSettings,
        embedder: Embedder,
        limits: Limits,
        recall: RecallSettings | None = None,
        reranking: Reranking | None = None,
        *,
        seconds: Callable[[], float] = monotonic,
    ) -> None:
        """`seconds`: a clock, by which the driver knows for how long to remember its writes.

        Raises `ConfigurationError` without a key or a host.
        """
        super().__init__(limits)
        recall = recall or RecallSettings()
        check_language(recall.language)
        self._embedder = embedder
        self._reranked = Reranked(reranking)
        self._host = settings.host
        index, turns = Index(settings), Turns()
        self._index = index
        self._database = Database(settings, index, embedder, recall.language)
        self._reading = Reading(index, Puts(index, seconds), self._now, seconds)
        storing = Storing(self._reading, recall.language)
        self._writing = Writing(self._reading, storing, embedder, recall.language, turns)
        self._documents = Documents(self._reading, storing, self._writing, turns)
        self._lists = Lists(self._reading)
        self._owners = Owners(self._reading)
        self._ranked = RankedRecall(self._reading, embedder, recall)
        self._knowledge = KnowledgeSearch(self._reading, embedder)
        self._forgetter = Forgetter(self._reading, self._writing, self._owners, self._now)
        self._health = Health(index, self._reading)
        self.sweeper = Sweeper(self._reading, self._writing, self._now, self._swept)
        """What deletes expired records."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            settings.pinecone,
            context.embedder,
            settings.limits,
            settings.recall,
            reranking=context.reranking,
        )

    def identity(self) -> frozenset[str] | None:
        """The namespaces of the index, whoever reaches them."""
        return frozenset({f"pinecone/{self._host}/{self._index.names.root}"})

    async def open(self) -> None:
        await self._reranked.open()
        await self._database.open()
        self.sweeper.start()

    async def close(self) -> None:
        await self.sweeper.stop()
        self._database.is_open = False
        await self._index.client.close()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        if wanted.query is None:
            return await self._lists.memories(wanted, wanted.top_k)
        return [
            replace(memory, score=one.score, explanation=one.explanation)
            for memory, one in await self._ranked.best(wanted)
        ]

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found = await self._knowledge.recall(wanted)
        return [replace(record, score=score) for record, score in found]

    async def _get(self, wanted: Get) -> Record | None:
        rows = await self._rows(wanted)
        now = self._now()
        return next((row.record for row in rows if is_alive(row.looked_at, now)), None)

    async def _rows(self, wanted: Get) -> list[Row]:
        """What is under the id, seen, and the user's if one is named."""
        one = UUID(wanted.record_id)
        if wanted.kind == "memory" and wanted.user_id is None:
            return await self._writing.seen(await self._owners.of(one))
        owner = KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)
        rows = await self._reading.rows(owner, [one])
        own = [row for row in rows.values() if _is_of(row, wanted)]
        return await self._writing.seen(own)

    async def _page(self, wanted: Page) -> MemoryPage:
        return wanted.of(await self._lists.memories(wanted, wanted.limit + 1))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        return wanted.of(await self._lists.knowledge(wanted, wanted.limit + 1))

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        if wanted.only is not None:
            owners = [hashed(wanted.only)]
        else:
            owners = [owner for _, owner in await self._owners.within(wanted)]
        for owner in [*owners, KNOWLEDGE] if wanted.knowledge else owners:
            async for rows in self._reading.all(owner):
                for row in await self._writing.seen(rows):
                    if is_alive(row.looked_at, self._now()):
                        yield row.record

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        at = moment_of(self.clock)
        if wanted.once:
            return await self._writing.once(wanted.records, at, self._now())
        await (self._writing.store if wanted.new else self._writing.merge)(wanted.records, at)
        return wanted.records

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return wanted.records, await self._documents.put(wanted, self.clock, self._now())

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._writing.replace(wanted.record, wanted.over, moment_of(self.clock))

    async def _delete(self, wanted: Delete) -> int:
        ids, now = [UUID(each) for each in wanted.ids], self._now()
        owners = [KNOWLEDGE if wanted.user_id is None else hashed(wanted.user_id)]
        if wanted.kind == "memory" and wanted.user_id is None:
            owners = sorted({owner for one in ids for owner in await self._owners.owners_of(one)})
        count = 0
        for owner in owners:
            rows = await self._writing.delete(owner, ids, lambda row: _is_of(row, wanted))
            seen = await self._writing.seen(rows)
            count += sum(is_alive(row.looked_at, now) for row in seen)
        return count

    async def _forget(self, wanted: Forget) -> int:
        return await self._forgetter.forget(wanted)

    async def _users(self, wanted: Users) -> UserPage:
        return user_page(await self._owners.page(wanted), wanted.limit)

    async def health_check(self) -> DriverHealth:
        state = await self._health.state(self.name)
        is_open = state.status != "unavailable"
        embedding = self._embedder.facts(is_open=is_open and self._database.is_open)
        if is_open:
            self.sweeper.start()
        return self._reranked.health(replace(state, facts={**state.facts, "embedding": embedding}))


def _is_of(row: Row, wanted: Get | Delete) -> bool:
    """Whether the record is of that kind, and the user's if one is named."""
    record = row.looked_at
    if wanted.kind == "knowledge":
        return not isinstance(record, Memory)
    return isinstance(record, Memory) and wanted.user_id in (None, record.user_id)
