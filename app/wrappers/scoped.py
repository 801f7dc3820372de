"""One tenant's part of a driver.

A tenant's users are users of the inner driver, under the id U+001F, tenant, U+001F, user id: no
tenant has a U+001F, so two tenants' users, and two users of one, are always two. A tenant's
knowledge is kept as memories of one user more, U+001F and the tenant, which no user of it can be
named. So all that keeps tenants apart is the isolation of users that every driver promises.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Final, NoReturn, Self

from app.core.memory.base import (
    BaseMemoryDriver,
    DriverContext,
    DriverHealth,
    SupportsDeleteKnowledge,
    SupportsDeleteUser,
    SupportsExplain,
    SupportsExport,
    SupportsGet,
    SupportsGetKnowledge,
    SupportsImport,
    SupportsList,
    SupportsOwner,
    SupportsStoreKnowledgeMany,
    SupportsStoreMany,
    require,
)
from app.core.memory.records import (
    Knowledge,
    Memory,
    MemoryPage,
    Metadata,
    NewKnowledge,
    NewMemory,
    Recalled,
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
from app.errors import CapabilityMissing, DriverError
from app.settings import TENANT, Limits
from app.wrappers.base import Call, WrappingDriver

MARK: Final = "\x1f"
"""What the id of a tenant's user starts with."""

_NEEDS: Final[dict[type, type]] = {
    SupportsGet: SupportsGet,
    SupportsList: SupportsList,
    SupportsStoreMany: SupportsStoreMany,
    SupportsDeleteUser: SupportsDeleteUser,
    SupportsGetKnowledge: SupportsGet,
    SupportsStoreKnowledgeMany: SupportsStoreMany,
    SupportsDeleteKnowledge: BaseMemoryDriver,
    SupportsExport: SupportsExport,
    SupportsImport: SupportsImport,
    SupportsOwner: SupportsOwner,
    SupportsExplain: SupportsExplain,
}
"""What the inner driver must be able to do for each capability; for any other, nothing helps."""


class ScopedDriver(WrappingDriver):
    """Serves one tenant: it finds, changes and tells of nothing else.

    Knowledge is ranked as the inner driver ranks memories, with its category as the conversation.
    """

    name = "scoped"

    def __init__(self, inner: BaseMemoryDriver, tenant: str, limits: Limits) -> None:
        """`limits` are the callers'; `inner` has to take those of `limits.widened()`."""
        if not TENANT.fullmatch(tenant):
            raise ValueError("a tenant is 1 to 32 letters, digits, _ and -")
        super().__init__((inner,))
        self._limits = limits
        self._knowledge = f"{MARK}{tenant}"
        self._users = f"{MARK}{tenant}{MARK}"

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        return cls(context.inner[0], context.options["tenant"], context.settings.limits)

    def supports(self, capability: type) -> bool:
        return capability in _NEEDS and self.inner[0].supports(_NEEDS[capability])

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
        inner = self.inner[0]
        found = await inner.recall(
            user_id=self._users + user_id,
            conversation_id=conversation_id,
            query=query,
            top_k=top_k,
            use_vector=use_vector,
            exclude_tags=exclude_tags,
        )
        memories = [self._memory(memory, user_id) for memory in found]
        return Recalled.like(found, memories, driver=inner.name)

    async def explain_recall(
        self,
        user_id: str,
        conversation_id: str | None = None,
        query: str | None = None,
        top_k: int = 10,
        use_vector: bool = True,
        exclude_tags: Sequence[str] | None = None,
    ) -> list[Memory]:
        inner = require(self.inner[0], SupportsExplain)
        check_recall(self._limits, user_id, conversation_id, query, top_k, exclude_tags)
        found = await inner.explain_recall(
            user_id=self._users + user_id,
            conversation_id=conversation_id,
            query=query,
            top_k=top_k,
            use_vector=use_vector,
            exclude_tags=exclude_tags,
        )
        memories = [self._memory(memory, user_id) for memory in found]
        return Recalled.like(found, memories, driver=self.inner[0].name)

    async def recall_global_knowledge(
        self, query: str, top_k: int = 5, category: str | None = None
    ) -> list[Knowledge]:
        check_recall_knowledge(self._limits, query, top_k, category)
        inner = self.inner[0]
        found = await inner.recall(
            user_id=self._knowledge, conversation_id=category, query=query, top_k=top_k
        )
        knowledge = [self._record(memory) for memory in found]
        return Recalled.like(found, knowledge, driver=inner.name)

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
        new_memory(new, self._limits)
        stored = await self.inner[0].store(
            user_id=self._users + user_id,
            content=content,
            conversation_id=conversation_id,
            tags=tags,
            metadata=metadata,
        )
        return self._memory(stored, user_id)

    async def store_many(self, memories: Sequence[NewMemory]) -> list[Memory]:
        inner = require(self.inner[0], SupportsStoreMany)
        await new_memories(memories, self._limits)
        stored = await inner.store_many(
            [replace(new, user_id=self._users + new.user_id) for new in memories]
        )
        return [
            self._memory(memory, new.user_id) for memory, new in zip(stored, memories, strict=True)
        ]

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
        stored = await self.inner[0].store(
            user_id=self._knowledge,
            content=content,
            conversation_id=category,
            metadata=_box(new_knowledge(new, self._limits)),
        )
        return self._record(stored)

    async def store_knowledge_many(self, knowledge: Sequence[NewKnowledge]) -> list[Knowledge]:
        inner = require(self.inner[0], SupportsStoreMany)
        stored = await inner.store_many(
            [
                NewMemory(
                    user_id=self._knowledge,
                    content=record.content,
                    conversation_id=record.category,
                    metadata=_box(record),
                )
                for record in await new_knowledge_records(knowledge, self._limits)
            ]
        )
        return [self._record(memory) for memory in stored]

    async def import_records(self, records: Sequence[Memory | Knowledge]) -> None:
        await require(self.inner[0], SupportsImport).import_records(
            [
                replace(record, user_id=self._users + record.user_id)
                if isinstance(record, Memory)
                else Memory(
                    memory_id=record.knowledge_id,
                    user_id=self._knowledge,
                    content=record.content,
                    conversation_id=record.category,
                    metadata=_box(record),
                    created_at=record.created_at,
                )
                for record in records
            ]
        )

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        async for record in require(self.inner[0], SupportsExport).export_records():
            if not isinstance(record, Memory):
                continue
            if record.user_id == self._knowledge:
                yield self._record(record)
            elif record.user_id.startswith(self._users):
                yield replace(record, user_id=record.user_id.removeprefix(self._users))

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        check_id(memory_id)
        if user_id is None:
            user_id = await self.owner_of(memory_id)
            return user_id is not None and await self._delete(memory_id, user_id)
        check_scope(self._limits, user_id)
        return await self._delete(memory_id, user_id)

    async def _delete(self, memory_id: str, user_id: str) -> bool:
        return await self.inner[0].delete(memory_id=memory_id, user_id=self._users + user_id)

    async def owner_of(self, memory_id: str) -> str | None:
        owner = await owner_in(self, memory_id)
        if owner is None or not owner.startswith(self._users):
            return None
        return owner.removeprefix(self._users)

    async def delete_user(self, user_id: str) -> int:
        inner = require(self.inner[0], SupportsDeleteUser)
        check_scope(self._limits, user_id)
        return await inner.delete_user(self._users + user_id)

    async def get(self, memory_id: str, user_id: str) -> Memory | None:
        inner = require(self.inner[0], SupportsGet)
        check_scope(self._limits, user_id)
        check_id(memory_id)
        memory = await inner.get(memory_id=memory_id, user_id=self._users + user_id)
        return None if memory is None else self._memory(memory, user_id)

    async def list_memories(
        self,
        user_id: str,
        conversation_id: str | None = None,
        cursor: str | None = None,
        limit: int = 50,
    ) -> MemoryPage:
        inner = require(self.inner[0], SupportsList)
        check_scope(self._limits, user_id, conversation_id)
        check_top_k(limit, self._limits, "limit")
        page = await inner.list_memories(
            user_id=self._users + user_id,
            conversation_id=conversation_id,
            cursor=cursor,
            limit=limit,
        )
        memories = [self._memory(memory, user_id) for memory in page.memories]
        return MemoryPage(memories, page.next_cursor)

    async def get_knowledge(self, knowledge_id: str) -> Knowledge | None:
        inner = require(self.inner[0], SupportsGet)
        check_id(knowledge_id, "knowledge_id")
        memory = await inner.get(memory_id=knowledge_id, user_id=self._knowledge)
        return None if memory is None else self._record(memory)

    async def delete_knowledge(self, knowledge_id: str) -> bool:
        check_id(knowledge_id, "knowledge_id")
        return await self.inner[0].delete(memory_id=knowledge_id, user_id=self._knowledge)

    async def health_check(self) -> DriverHealth:
        state = await self.inner[0].health_check()
        return DriverHealth(
            driver=self.name, status=state.status, detail=state.detail, drivers=(state,)
        )

    async def _read(self, call: Call) -> NoReturn:
        raise CapabilityMissing(f"The driver {self.name!r} can't {call.verb} for a tenant")

    async def _write(self, call: Call) -> NoReturn:
        await self._read(call)

    def _memory(self, memory: Memory, user_id: str) -> Memory:
        """The inner driver's memory as the one of the tenant's user."""
        self._check_owner(memory, self._users + user_id)
        return replace(memory, user_id=user_id)

    def _record(self, memory: Memory) -> Knowledge:
        """The knowledge that the inner driver keeps as this memory."""
        self._check_owner(memory, self._knowledge)
        box = memory.metadata
        return Knowledge(
            knowledge_id=memory.memory_id,
            content=memory.content,
            category=memory.conversation_id or "",
            title=box.get("title"),
            doc_id=box.get("doc_id"),
            metadata=dict(box["metadata"]),
            created_at=memory.created_at,
            score=memory.score,
        )

    def _check_owner(self, memory: Memory, owner: str) -> None:
        if memory.user_id != owner:
            raise DriverError(reason=f"{self.inner[0].name} gave a memory of another user")


async def owner_in(driver: WrappingDriver, memory_id: str) -> str | None:
    """The inner driver's owner of the memory."""
    inner = driver.inner[0]
    if not inner.supports(SupportsOwner):
        raise CapabilityMissing(
            f"The driver {driver.name!r} needs the user's id: {inner.name!r} can't tell whose "
            "memory it is"
        )
    check_id(memory_id)
    return await require(inner, SupportsOwner).owner_of(memory_id)


def _box(record: Knowledge) -> dict[str, Any]:
    """The metadata of the memory that keeps the knowledge."""
    box: dict[str, Any] = {"metadata": record.metadata}
    if record.title is not None:
        box["title"] = record.title
    if record.doc_id is not None:
        box["doc_id"] = record.doc_id
    return box
