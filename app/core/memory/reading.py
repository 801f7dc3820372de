"""The verbs that read, spelled once: checked here, answered by a driver's hooks."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, final

from app.core.memory.checks import (
    check_half_life,
    check_id,
    check_moment,
    check_recall,
    check_recall_knowledge,
    check_recency_weight,
    check_scope,
    check_top_k,
)
from app.core.memory.cursor import UserCursor
from app.core.memory.derived import Derived
from app.core.memory.filter import Filter, read_filter
from app.core.memory.hooks import RecordHooks
from app.core.memory.records import Key, Knowledge, Memory, MemoryPage, Record, UserPage
from app.core.memory.requests import Export, Get, Page, Recall, RecallKnowledge, Recency, Users
from app.embedding import Model
from app.errors import CapabilityMissing


class ReadVerbs(RecordHooks):
    """The verbs of `RecordDriver` that change nothing."""

    @final
    async def recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
        *,
        explain: bool = False,
        recency: Recency | None = None,
        as_of: datetime | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
    ) -> list[Memory]:
        """As `BaseMemoryDriver` has it; with `explain` each memory has its `explanation`.

        Only memories that the `filter` lets through take part; `filter.py` has its grammar.
        With `recency` new memories get more points, where there is a query and vectors take part.
        The query speaks from the day of `as_of`, in its own offset, else in UTC; by default now.
        """
        if explain and not self.explains:
            raise CapabilityMissing(f"The driver {self.name!r} can't explain a recall")
        if recency is not None:
            if not self.weighs_recency:
                raise CapabilityMissing(f"The driver {self.name!r} can't weigh recency")
            check_half_life(recency.half_life_days, ("recency", "half_life_days"))
            check_recency_weight(recency.weight, ("recency", "weight"))
        check_recall(self._limits, user_id, conversation_id, query, top_k, exclude_tags)
        self._check_user(user_id)
        return await self._recall(
            Recall(
                user_id=user_id,
                conversation_id=conversation_id,
                query=query,
                top_k=top_k,
                use_vector=bool(use_vector),
                filter=_without(exclude_tags, read_filter(filter, self._limits)),
                explain=explain,
                recency=recency,
                as_of=None if as_of is None else check_moment(as_of, "as_of"),
            )
        )

    @final
    async def recall_global_knowledge(
        self,
        query: str,
        top_k: int = 5,
        category: str | None = None,
        *,
        doc_id: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
    ) -> list[Knowledge]:
        """As `BaseMemoryDriver` has it; of the document, if one is given."""
        check_recall_knowledge(self._limits, query, top_k, category, doc_id)
        return await self._recall_knowledge(
            RecallKnowledge(
                query=query,
                top_k=top_k,
                category=category,
                doc_id=doc_id,
                filter=read_filter(filter, self._limits, knowledge=True),
            )
        )

    @final
    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        """The memory, or None where it is missing or another user's."""
        self._need_all("look a memory up")
        check_scope(self._limits, user_id)
        self._check_user(user_id)
        found = await self._get(Get("memory", str(check_id(memory_id)), user_id))
        return found if isinstance(found, Memory) else None

    @final
    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        """The knowledge, or None."""
        self._need_all("look knowledge up")
        key = str(check_id(knowledge_id, "knowledge_id"))
        found = await self._get(Get("knowledge", key))
        return found if isinstance(found, Knowledge) else None

    @final
    async def owner_of(self, memory_id: str) -> str | None:
        """The user id of the memory's owner, or None without such a memory."""
        self._need_all("tell whose a memory is")
        found = await self._get(Get("memory", str(check_id(memory_id))))
        return found.user_id if isinstance(found, Memory) else None

    @final
    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
        *,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
    ) -> MemoryPage:
        """A page, newest first by `occurred_at`; `cursor` is the previous page's `next_cursor`.

        Only memories that the `filter` lets through are listed.
        """
        self._need_all("list memories")
        check_scope(self._limits, user_id, conversation_id)
        self._check_user(user_id)
        check_top_k(limit, self._limits, "limit")
        wanted = Page(
            user_id=user_id,
            conversation_id=conversation_id,
            filter=read_filter(filter, self._limits),
            limit=limit,
        )
        if cursor is not None:
            wanted = replace(wanted, after=wanted.read_cursor(cursor))
        return await self._page(wanted)

    @final
    async def list_users(self, cursor: str | None = None, limit: int = 50) -> UserPage:
        """The users who have memories, and how many; `cursor` is the previous page's `next_cursor`.

        They come by their ids in code-point order. A page may be empty before the last.
        """
        self._need_all("list users")
        if not self.lists_users:
            raise CapabilityMissing(f"The driver {self.name!r} can't list users")
        check_top_k(limit, self._limits, "limit")
        start = UserCursor.decode(cursor).next_id if cursor is not None else ""
        return await self._users(Users(start=start, limit=limit))

    @final
    def export_records(
        self,
        user_id: str | None = None,
        *,
        since: datetime | None = None,
        start: str | None = "",
    ) -> AsyncIterator[Record]:
        """Every user's memories and all knowledge, each once; or the memories of one user.

        The users come by their ids in code-point order, and the knowledge after them. With `since`
        only what was stored or changed at that moment or later, by `updated_at`. `start` is the
        first user, where it is not the very first; None: the knowledge alone. What is stored or
        deleted meanwhile may or may not be among them.
        """
        self._need_all("export records")
        wanted = Export(end="") if start is None else Export(start=start)
        if user_id is not None:
            check_scope(self._limits, user_id)
            self._check_user(user_id)
            wanted = Export.of_user(user_id)
        records = self._export(wanted)
        return records if since is None else _changed(records, check_moment(since, "since"))

    @final
    async def model(self) -> Model | None:
        """The model that makes the driver's vectors, where they can be exported and imported."""
        return await self._model()

    @final
    async def derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        """What the driver has made of each exported record: its vectors, and maybe its outline.

        None of a record that has changed since, and where the driver gives no vectors.
        """
        self._check_users(records, "records")
        return await self._derived_of(records)

    @final
    async def gone(self, keys: Sequence[Key]) -> set[Key]:
        """Those of the owners and ids of exported records under which there is nothing now."""
        self._need_all("look records up")
        for n, (user_id, _) in enumerate(keys):
            if user_id is not None:
                self._check_user(user_id, ("keys", n))
        return await self._gone(keys)


async def _changed(records: AsyncIterator[Record], since: datetime) -> AsyncIterator[Record]:
    async for record in records:
        if record.updated_at >= since:
            yield record


def _without(tags: Sequence[str] | None, wanted: Filter) -> Filter:
    """The filter that lets none of the tags through, either."""
    return replace(wanted, no_tags=(*wanted.no_tags, *tags)) if tags else wanted
