"""Memories and knowledge in AutoMem: the verbs, over the mapping, the search and the writer."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from heapq import nsmallest
from typing import Self, TypeVar
from urllib.parse import urlsplit

from app.core.memory.base import DriverContext, DriverHealth
from app.core.memory.cursor import after_user, user_page
from app.core.memory.querying import check_language
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
    is_alive,
    key_of,
    record_id,
)
from app.core.memory.requests import (
    Delete,
    Export,
    Forget,
    Get,
    Keep,
    Page,
    PageKnowledge,
    Recall,
    RecallKnowledge,
    Replace,
    Users,
)
from app.core.memory.reranked import Reranked
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.forgetting import Forgetter
from app.drivers.automem.health import Health
from app.drivers.automem.listing import Listing
from app.drivers.automem.mapping import Row, Tags
from app.drivers.automem.once import Once
from app.drivers.automem.replacing import Replacer
from app.drivers.automem.scope import (
    PAGE,
    Scope,
    dict_of,
    knowledge_scope,
    memory_scope,
    read_all,
    whole_scope,
)
from app.drivers.automem.search import Search, Wanted
from app.drivers.automem.sweeping import Sweeper
from app.drivers.automem.unembedded import Unembedded
from app.drivers.automem.versions import latest
from app.drivers.automem.writing import Writer, some_at_once
from app.errors import CapabilityMissing
from app.machine import is_loopback, machine
from app.reranking import Reranking
from app.settings import AutomemSettings, Limits
from app.turns import Turns

_SPARE = 5
_LOOKS = 20
"""How often a delete looks for a record that others replace each time before it gets there."""

Kind = TypeVar("Kind", Memory, Knowledge)


class AutomemDriver(RecordDriver):
    """AutoMem 0.16 or newer, which keeps everyone's memories in one space.

    Isolation is made here: scopes are tags that only this service can make, and the owner of every
    record that comes back is checked. `score` is f / (1 + f), f being AutoMem's `final_score`, and
    1 for the same text. With `use_vector=False` it is what `app/ranking` makes of the words.
    """

    name = "automem"

    def __init__(
        self,
        settings: AutomemSettings,
        limits: Limits,
        reranking: Reranking | None = None,
        *,
        language: str = "english",
    ) -> None:
        """`language`: that of the words of texts and queries."""
        super().__init__(limits)
        check_language(language)
        self._reranked = Reranked(reranking)
        self._settings = settings
        self._tags = Tags(settings.tag_secret.get_secret_value())
        self._client = AutomemClient(settings)
        self._health = Health(self._client)
        unembedded = Unembedded()
        self._search = Search(self._client, self._tags, unembedded, language)
        self._writer = Writer(self._client, self._tags, unembedded)
        self._listing = Listing(self._search)
        self._turns = Turns()
        self._replacer = Replacer(self._writer)
        self._once = Once(self._writer, self._replacer, self._turns, self._legacy, self._is_alive)
        self._forgetter = Forgetter(self._client, self._writer, self._turns, self._is_alive)
        self.sweeper = Sweeper(
            self._client, self._tags, self._writer, self._turns, self._now, self._swept
        )
        """What deletes expired records."""

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        settings = context.settings
        return cls(
            settings.automem,
            settings.limits,
            reranking=context.reranking,
            language=settings.recall.language,
        )

    async def open(self) -> None:
        """Check that AutoMem answers and takes the token.

        Raises `DriverUnavailable`, or `ConfigurationError` for a token that AutoMem refuses.
        """
        await self._reranked.open()
        await self._health.check()
        self.sweeper.start()

    async def close(self) -> None:
        await self.sweeper.stop()
        await self._client.close()

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._reranked.recall(self.name, wanted, self._found)

    async def _found(self, wanted: Recall) -> list[Memory]:
        scope = self._scope(wanted.user_id, wanted.conversation_id)
        size = PAGE if wanted.filter else wanted.top_k + _SPARE
        has = self._has(wanted)
        found: Sequence[Record]
        if wanted.query is None:
            rows = await self._search.newest(scope, wanted.top_k, has, size)
            found = [row.record for row in rows]
        elif wanted.use_vector:
            found = await self._search.by_meaning(scope, wanted.query, wanted.top_k, has, size)
        else:
            found = await self._search.by_words(scope, wanted.query, wanted.top_k, has)
        return _only(Memory, found)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        scope = knowledge_scope(self._tags, wanted.category, wanted.doc_id)
        size = PAGE if wanted.filter else wanted.top_k + _SPARE
        found = await self._search.by_meaning(
            scope,
            wanted.query,
            wanted.top_k,
            self._has_knowledge(wanted),
            size,
        )
        return _only(Knowledge, found)

    def _has(self, wanted: Recall | Page) -> Wanted:
        return lambda one: isinstance(one, Memory) and wanted.has(one, self._now())

    def _has_knowledge(self, wanted: RecallKnowledge | PageKnowledge) -> Wanted:
        return lambda one: isinstance(one, Knowledge) and wanted.has(one, self._now())

    def _is_alive(self, record: Record) -> bool:
        return is_alive(record, self._now())

    async def _get(self, wanted: Get) -> Record | None:
        rows = await self._rows(wanted)
        if not rows and wanted.kind == "memory" and wanted.user_id is not None:
            rows = await self._legacy(wanted.record_id, wanted.user_id)
        found = latest(rows)
        return found.record if found is not None and self._is_alive(found.record) else None

    async def _page(self, wanted: Page) -> MemoryPage:
        scope = self._scope(wanted.user_id, wanted.conversation_id)
        found = await self._listing.page(scope, wanted, self._has(wanted))
        return wanted.of(_only(Memory, found))

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        scope = knowledge_scope(self._tags, wanted.category, wanted.doc_id)
        found = await self._listing.page(scope, wanted, self._has_knowledge(wanted))
        return wanted.of(_only(Knowledge, found))

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        """User by user: AutoMem has everyone's memories in the order of their time."""
        users = [wanted.start]
        if wanted.end != after_user(wanted.start):
            users = sorted(await self._counted(wanted))
        scopes = [memory_scope(self._tags, user_id) for user_id in users]
        if wanted.knowledge:
            scopes.append(knowledge_scope(self._tags))
        for scope in scopes:
            async for rows in read_all(self._client, scope):
                for row in rows:
                    if self._is_alive(row.record):
                        yield row.record

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        if wanted.once:
            return await self._once.keep(wanted.records)
        records: Sequence[Record] = wanted.records
        if wanted.new:
            await self._writer.store(records)
        else:
            await self._replacer.keep(records)
        return wanted.records

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        """As the base has it; no other update or delete of this driver comes between."""
        record: Record = wanted.record
        key = record_id(record)
        async with self._turns.of(key):
            found = await self._writer.find([key])
            rows = [row for row in found if key_of(row.record) == key_of(record)]
            there = latest(rows)
            if there is not None and there.record.updated_at == wanted.over:
                return await self._replacer.replace(record, rows)
        if not rows and isinstance(record, Memory) and await self._legacy(key, record.user_id):
            raise CapabilityMissing("Another client of AutoMem stored this memory: read only")
        return False

    async def _delete(self, wanted: Delete) -> int:
        found: dict[str, list[Row]] = {one: [] for one in wanted.ids}
        for row in await self._writer.find(wanted.ids):
            found[row.record_id].append(row)

        async def delete(one: str) -> bool:
            return await self._delete_one(Get(wanted.kind, one, wanted.user_id), found[one])

        return sum(await some_at_once(delete, found))

    async def _delete_one(self, wanted: Get, rows: list[Row]) -> bool:
        """Delete what carries the record; `rows` was all of it a moment ago."""
        async with self._turns.of(wanted.record_id):
            for _ in range(_LOOKS):
                rows = [row for row in rows if _is_wanted(row.record, wanted)]
                there = latest(rows)
                if there is None:
                    break
                if await self._writer.delete(rows):
                    return self._is_alive(there.record)
                rows = await self._writer.find([wanted.record_id])
        legacy = self._settings.legacy_writable and wanted.kind == "memory"
        if not legacy or wanted.user_id is None:
            return False
        theirs = await self._legacy(wanted.record_id, wanted.user_id)
        return bool(await self._writer.delete(theirs))

    async def _rows(self, wanted: Get) -> list[Row]:
        """AutoMem's memories that carry the record; several after a repeat."""
        found = await self._writer.find([wanted.record_id])
        return [row for row in found if _is_wanted(row.record, wanted)]

    async def _legacy(self, key: str, user_id: str) -> list[Row]:
        """The other client's memory of AutoMem's id `key`, if there is a legacy scope for it."""
        scope = self._scope(user_id)
        if scope.legacy_tag is None:
            return []
        answer = await self._client.get_if_there(f"/memory/{key}")
        row = scope.read(dict_of(answer).get("memory"), key)
        return [row] if row is not None else []

    async def _forget(self, wanted: Forget) -> int:
        legacy = self._settings.legacy_tag if self._settings.legacy_writable else None
        scope = memory_scope(self._tags, wanted.user_id, legacy=legacy)
        return await self._forgetter.forget(scope, wanted)

    async def _users(self, wanted: Users) -> UserPage:
        counts = await self._counted(wanted)
        users = nsmallest(wanted.limit + 1, counts)
        return user_page([UserCount(one, counts[one]) for one in users], wanted.limit)

    async def _counted(self, wanted: Users | Export) -> Counter[str]:
        """How many memories each of the wanted users has."""
        counts: Counter[str] = Counter()
        async for rows in read_all(self._client, whole_scope(self._tags)):
            memories = (row.record for row in rows if isinstance(row.record, Memory))
            counts.update(
                one.user_id for one in memories if wanted.has(one.user_id) and self._is_alive(one)
            )
        return counts

    def identity(self) -> frozenset[str]:
        """Its endpoint, and the machine where that is this one."""
        url = self._settings.url
        here = f"@{machine()}" if is_loopback(urlsplit(url).hostname or "") else ""
        return frozenset({f"automem/{url}{here}"})

    async def health_check(self) -> DriverHealth:
        return self._reranked.health(await self._health.state(self.name))

    def _scope(self, user_id: str, conversation_id: str | None = None) -> Scope:
        return memory_scope(self._tags, user_id, conversation_id, self._settings.legacy_tag)


def _is_wanted(record: Record, wanted: Get) -> bool:
    if isinstance(record, Memory):
        return wanted.kind == "memory" and wanted.user_id in (None, record.user_id)
    return wanted.kind == "knowledge"


def _only(kind: type[Kind], records: Sequence[Record]) -> list[Kind]:
    """The records of that kind: a scope gives no others."""
    return [record for record in records if isinstance(record, kind)]
