"""The contract's verbs, spelled once: checked here, answered by a driver's hooks.

A caller gives arguments; the driver's hooks get values of `requests.py`, within the limits. A
wrapping driver hands such a value to the hook of a driver that it holds, so that nothing is
checked or built twice.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from random import uniform
from typing import Any, final

from app.core.memory.batches import Place, made_of_each
from app.core.memory.checks import (
    Metadata,
    check_id,
    check_moment,
    check_scope,
)
from app.core.memory.deleting import created_before, delete_all
from app.core.memory.derived import Derived
from app.core.memory.documents import DocumentVerbs
from app.core.memory.filter import read_filter
from app.core.memory.merge_patch import (
    Patch,
    checked_knowledge_patch,
    checked_memory_patch,
    patched,
)
from app.core.memory.once import keep_once
from app.core.memory.reading import ReadVerbs
from app.core.memory.records import (
    Kept,
    Knowledge,
    Memory,
    NewKnowledge,
    NewMemory,
    Record,
    document_of,
    new_knowledge,
    new_memory,
)
from app.core.memory.requests import (
    Delete,
    Forget,
    Get,
    Keep,
    Page,
    Replace,
)
from app.errors import Contended, InvalidInput, PreconditionFailed

_TRIES = 20
"""How often an update is tried while others change the same record."""
_PAUSE_SECONDS = 0.02
"""The mean pause before the second try; it is twice as long before the third, and so on."""


class RecordDriver(ReadVerbs, DocumentVerbs):
    """A driver that keeps records under the service's ids: a backend's driver writes only hooks.

    Every verb raises `InvalidInput` for an argument that is not within the limits, before any hook
    is called. No verb finds, changes or counts a record that has expired.
    """

    @final
    async def store(
        self,
        user_id: str,
        content: str,
        conversation_id: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Metadata | None = None,
        *,
        occurred_at: datetime | None = None,
        expires_at: datetime | None = None,
        ttl: float | None = None,
        memory_id: str | None = None,
    ) -> Memory:
        """As `BaseMemoryDriver` has it; `NewMemory` tells of the other arguments.

        Raises `Conflict` where something else was stored under the user's `memory_id`.
        """
        new = NewMemory(
            user_id=user_id,
            content=content,
            conversation_id=conversation_id,
            tags=tags,
            metadata=metadata,
            occurred_at=occurred_at,
            expires_at=expires_at,
            ttl=ttl,
            memory_id=memory_id,
        )
        return (await self._stored([self._new_memory(new)]))[0]

    @final
    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        """Store all of the memories or none; the answer is in their order.

        The `InvalidInput` of a bad entry has up to 19 `others`, of other entries. Raises `Conflict`
        where something else was stored under the id that one of them has.
        """
        self._need_all("store memories in one go")
        records = await made_of_each(memories, "memories", self._limits, self._new_memory)
        return await self._stored(records, "memories")

    @final
    async def store_global_knowledge(
        self,
        content: str,
        category: str,
        title: str | None = None,
        doc_id: str | None = None,
        metadata: Metadata | None = None,
        *,
        expires_at: datetime | None = None,
        ttl: float | None = None,
        knowledge_id: str | None = None,
    ) -> Knowledge:
        """As `BaseMemoryDriver` has it; `NewKnowledge` tells of the other arguments.

        Raises `Conflict` where something else was stored under the `knowledge_id`.
        """
        new = NewKnowledge(
            content=content,
            category=category,
            title=title,
            doc_id=doc_id,
            metadata=metadata,
            expires_at=expires_at,
            ttl=ttl,
            knowledge_id=knowledge_id,
        )
        return (await self._stored([self._new_knowledge(new)]))[0]

    @final
    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        """Store all of the records or none; the answer, and an error, is as of `store_many`."""
        self._need_all("store knowledge in one go")
        records = await made_of_each(knowledge, "knowledge", self._limits, self._new_knowledge)
        return await self._stored(records, "knowledge")

    async def _stored(self, records: Sequence[Kept], batch: str | None = None) -> list[Kept]:
        """The records as they are kept: those under ids of their callers once."""
        if all(record.request is None for record in records):
            return [*await self._keep(Keep(records, new=True))]
        self._need_all("store under an id that the caller gives")
        return await keep_once(self._keep, records, batch)

    @final
    def check_new(self, new: NewMemory | NewKnowledge, loc: Place = ()) -> None:
        """Raise `InvalidInput`, at a place in `loc`, for what could not be stored."""
        if isinstance(new, NewMemory):
            self._new_memory(new, loc)
        else:
            self._new_knowledge(new, loc)

    def _new_memory(self, new: NewMemory, loc: Place = ()) -> Memory:
        memory = new_memory(new, self._limits, loc, clock=self.clock)
        self._check_user(memory.user_id, (*loc, "user_id"))
        return memory

    def _new_knowledge(self, new: NewKnowledge, loc: Place = ()) -> Knowledge:
        return new_knowledge(new, self._limits, loc, clock=self.clock)

    @final
    async def import_records(
        self, records: Sequence[Record], derived: Sequence[Derived | None] = ()
    ) -> None:
        """Keep the records as they are: each is inserted, or replaces an older version of itself.

        The version is `updated_at`. `derived` is what is made of each record, with vectors of the
        driver's own `model`; the driver makes what is None. After an error some records may be
        kept; the same call made again keeps the rest.
        """
        self._need_all("import records")
        self._check_users(records, "records")
        if records:
            await self._keep(Keep(records, derived=derived))

    @final
    async def update(
        self,
        memory_id: str,
        user_id: str,
        patch: Patch,
        *,
        if_match: Sequence[datetime] | None = None,
    ) -> Memory | None:
        """Change the memory by a JSON merge patch; the changed memory.

        None where the memory is missing or another user's. A patch that changes nothing leaves
        `updated_at` as it is. Raises `PreconditionFailed` where the memory's `updated_at` is not in
        `if_match`, and `Contended` where other writers were quicker at every attempt.
        """
        self._need_all("update a memory")
        check_scope(self._limits, user_id)
        self._check_user(user_id)
        wanted = Get("memory", str(check_id(memory_id)), user_id)
        checked = checked_memory_patch(patch, self._limits, self.clock.now())
        return await self._update(Memory, wanted, checked, if_match)

    @final
    async def update_knowledge(
        self, knowledge_id: str, patch: Patch, *, if_match: Sequence[datetime] | None = None
    ) -> Knowledge | None:
        """Change knowledge by a JSON merge patch, as `update` does; None where it is missing."""
        self._need_all("update knowledge")
        wanted = Get("knowledge", str(check_id(knowledge_id, "knowledge_id")))
        checked = checked_knowledge_patch(patch, self._limits, self.clock.now())
        return await self._update(Knowledge, wanted, checked, if_match)

    async def _update(
        self, kind: type[Kept], wanted: Get, patch: Patch, if_match: Sequence[datetime] | None
    ) -> Kept | None:
        """Patch the record as it is now; after another writer's change, patch what that left."""
        for attempt in range(_TRIES):
            if attempt:
                await asyncio.sleep(uniform(0, 2 * attempt * _PAUSE_SECONDS))  # noqa: S311
            found = await self._get(wanted)
            if not isinstance(found, kind):
                return None
            if if_match is not None and found.updated_at not in if_match:
                raise PreconditionFailed
            changed = patched(found, patch, self._limits)
            if changed is found:
                return found
            version = self.clock.version(found.updated_at)
            changed = replace(changed, updated_at=version)
            if await self._replace(Replace(changed, found.updated_at, _joins(changed, found))):
                return changed
        raise Contended

    @final
    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        key = str(check_id(memory_id))
        if user_id is not None:
            check_scope(self._limits, user_id)
            self._check_user(user_id)
        return await self._delete(Delete("memory", (key,), user_id)) > 0

    @final
    async def delete_many(
        self,
        user_id: str,
        conversation_id: str | None = None,
        filter: Mapping[str, Any] | None = None,  # noqa: A002 - the contract's name
        before: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Delete the user's memories that all of this holds for; how many there were.

        Those of the conversation, that the `filter` lets through, and that were created `before`
        that moment; one of the three must be given. What was stored before the call is reached, and
        what is stored after it is not.
        With `dry_run` they are only counted. After an error some may be deleted; the same call made
        again deletes the rest.
        """
        self._need_all("delete memories in one go")
        check_scope(self._limits, user_id, conversation_id)
        self._check_user(user_id)
        wanted = read_filter(filter, self._limits)
        if before is not None:
            wanted = created_before(wanted, check_moment(before, "before"))
        if conversation_id is None and not wanted:
            raise InvalidInput(
                "conversation_id, a filter that leaves something out, or before must be given; "
                "all that a user has is deleted by forgetting the user"
            )
        page = Page(user_id=user_id, conversation_id=conversation_id, filter=wanted)
        async with self._moment() as until:
            return await delete_all(
                page, self._page, self._delete, until, self._now, dry_run=dry_run
            )

    @final
    async def delete_knowledge(self, knowledge_id: str) -> bool:
        """Delete one record; whether it was there."""
        self._need_all("delete knowledge")
        key = str(check_id(knowledge_id, "knowledge_id"))
        return await self._delete(Delete("knowledge", (key,))) > 0

    @final
    async def delete_user(self, user_id: str) -> int:
        """Delete all of the user's memories; how many there were."""
        self._need_all("forget a user")
        check_scope(self._limits, user_id)
        self._check_user(user_id)
        return await self._forget(Forget(user_id))


def _joins(changed: Record, found: Record) -> bool:
    """Whether the update moves knowledge into a document."""
    return isinstance(changed, Knowledge) and document_of(changed) not in (
        None,
        document_of(found),
    )
