"""One tenant's part of a driver.

A tenant's users are users of the inner driver, under the id U+001F, tenant, U+001F, user id: no
tenant has a U+001F, so two tenants' users, and two users of one, are always two. A tenant's
knowledge is kept as memories of one user more, U+001F and the tenant, which no user of it can be
named. So all that keeps tenants apart is the isolation of users that every driver promises.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final, Self, cast

from app.core.memory.base import BaseMemoryDriver, DriverContext, DriverHealth
from app.core.memory.cursor import UserCursor
from app.core.memory.derived import Derived
from app.core.memory.filter import Condition, Filter, Scalar
from app.core.memory.records import (
    DOC_ID,
    POSITION,
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Recalled,
    Record,
    UserCount,
    UserPage,
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
from app.embedding import Model
from app.errors import DriverError
from app.settings import TENANT, Limits
from app.wrappers.base import WrappingDriver

MARK: Final = "\x1f"
"""What the id of a tenant's user starts with."""
AFTER_MARK: Final = chr(ord(MARK) + 1)
"""The least id after all that start with `MARK`."""
_TITLE: Final = "title"
_OWN: Final = "m."
"""What the keys of a tenant's knowledge start with in the metadata of the memory that it is."""


class ScopedDriver(WrappingDriver):
    """Serves one tenant: it finds, changes and tells of nothing else.

    Knowledge is ranked as the inner driver ranks memories, with its category as the conversation.
    """

    name = "scoped"

    def __init__(self, inner: BaseMemoryDriver, tenant: str, limits: Limits) -> None:
        """`limits` are the callers': what `inner` gets may be larger, as `Limits.widened` tells."""
        if not TENANT.fullmatch(tenant):
            raise ValueError("a tenant is 1 to 32 letters, digits, _ and -")
        super().__init__((inner,), limits)
        self._inner = self.inner[0]
        self._knowledge = f"{MARK}{tenant}"
        self._prefix = f"{MARK}{tenant}{MARK}"
        self._behind = f"{MARK}{tenant}{AFTER_MARK}"

    @classmethod
    def from_context(cls, context: DriverContext) -> Self:
        return cls(context.inner[0], context.options["tenant"], context.settings.limits)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        found = await self._inner._recall(replace(wanted, user_id=self._prefix + wanted.user_id))
        memories = [self._memory(memory, wanted.user_id) for memory in found]
        return Recalled.like(found, memories, driver=self._inner.name)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        found = await self._inner._recall(
            Recall(
                user_id=self._knowledge,
                conversation_id=wanted.category,
                query=wanted.query,
                top_k=wanted.top_k,
                filter=_in_box(wanted),
            )
        )
        knowledge = [self._unboxed(memory) for memory in found]
        return Recalled.like(found, knowledge, driver=self._inner.name)

    async def _get(self, wanted: Get) -> Record | None:
        found = await self._inner._get(Get("memory", wanted.record_id, self._owner(wanted)))
        if not isinstance(found, Memory):
            return None
        if wanted.kind == "knowledge":
            return self._unboxed(found)
        if wanted.user_id is not None:
            return self._memory(found, wanted.user_id)
        return self._own(found)

    async def _page(self, wanted: Page) -> MemoryPage:
        page = await self._inner._page(replace(wanted, user_id=self._prefix + wanted.user_id))
        memories = [self._memory(memory, wanted.user_id) for memory in page.memories]
        return MemoryPage(memories, page.next_cursor)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        page = await self._inner._page(
            Page(
                user_id=self._knowledge,
                conversation_id=wanted.category,
                doc_id=wanted.doc_id,
                filter=_of_box(wanted.filter),
                after=wanted.after,
                limit=wanted.limit,
            )
        )
        return KnowledgePage([self._unboxed(each) for each in page.memories], page.next_cursor)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        end = self._behind if wanted.end is None else self._prefix + wanted.end
        mine = Export(start=self._prefix + wanted.start, end=end, knowledge=False)
        async for record in self._inner._export(mine):
            own = self._own(record) if isinstance(record, Memory) else None
            if own is not None:
                yield own
        if wanted.knowledge:
            async for record in self._inner._export(Export.of_user(self._knowledge)):
                if isinstance(record, Memory):
                    yield self._unboxed(record)

    async def _model(self) -> Model | None:
        return await self._inner._model()

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        return await self._inner._derived_of([self._boxed(record) for record in records])

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        boxed: dict[Key, Key] = {
            (self._knowledge if user is None else self._prefix + user, one): (user, one)
            for user, one in keys
        }
        return {boxed[key] for key in await self._inner._gone([*boxed])}

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        boxed = [self._boxed(record) for record in wanted.records]
        kept = await self._inner._keep(Keep(boxed, wanted.new, wanted.once, wanted.derived))
        return self._given_back(kept, wanted.records)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        boxed = [self._boxed(record) for record in wanted.records]
        put = Put(wanted.doc_id, boxed, self._knowledge, wanted.before)
        kept, deleted = await self._inner._put(put)
        return self._given_back(kept, wanted.records), deleted

    def _given_back(self, kept: Sequence[Memory], records: Sequence[Kept]) -> list[Kept]:
        """What the inner driver has of the records, as they are."""
        return [
            cast(
                Kept,
                self._memory(memory, record.user_id)
                if isinstance(record, Memory)
                else self._unboxed(memory),
            )
            for memory, record in zip(kept, records, strict=True)
        ]

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        boxed = Replace(self._boxed(wanted.record), wanted.over, wanted.joins)
        return await self._inner._replace(boxed)

    async def _delete(self, wanted: Delete) -> int:
        owner = self._owner(wanted)
        if owner is not None:
            return await self._inner._delete(Delete("memory", wanted.ids, owner))
        deleted = 0
        for each in wanted.ids:
            found = await self._inner._get(Get("memory", each))
            if isinstance(found, Memory) and found.user_id.startswith(self._prefix):
                deleted += await self._inner._delete(Delete("memory", (each,), found.user_id))
        return deleted

    async def _forget(self, wanted: Forget) -> int:
        return await self._inner._forget(replace(wanted, user_id=self._prefix + wanted.user_id))

    async def _users(self, wanted: Users) -> UserPage:
        end = self._behind if wanted.end is None else self._prefix + wanted.end
        inner = Users(start=self._prefix + wanted.start, end=end, limit=wanted.limit)
        page = await self._inner._users(inner)
        users = [
            UserCount(each.user_id.removeprefix(self._prefix), each.memories) for each in page.users
        ]
        if page.next_cursor is None:
            return UserPage(users, None)
        last = UserCursor.decode(page.next_cursor).user_id.removeprefix(self._prefix)
        return UserPage(users, UserCursor(last).encode())

    def _owner(self, wanted: Get | Delete) -> str | None:
        """The owner on the inner driver; None where the caller names no user."""
        if wanted.kind == "knowledge":
            return self._knowledge
        return None if wanted.user_id is None else self._prefix + wanted.user_id

    async def health_check(self) -> DriverHealth:
        state = await self._inner.health_check()
        return DriverHealth(
            driver=self.name, status=state.status, detail=state.detail, drivers=(state,)
        )

    def _own(self, memory: Memory) -> Memory | None:
        """The inner driver's memory under its user's own id; None for another tenant's."""
        if not memory.user_id.startswith(self._prefix):
            return None
        return replace(memory, user_id=memory.user_id.removeprefix(self._prefix))

    def _boxed(self, record: Record) -> Memory:
        """The memory that the inner driver keeps for the record."""
        if isinstance(record, Memory):
            return replace(record, user_id=self._prefix + record.user_id)
        box = {_OWN + key: value for key, value in record.metadata.items()}
        fields = {_TITLE: record.title, DOC_ID: record.doc_id, POSITION: record.position}
        box |= {name: value for name, value in fields.items() if value is not None}
        return Memory(
            memory_id=record.knowledge_id,
            user_id=self._knowledge,
            content=record.content,
            conversation_id=record.category,
            metadata=box,
            created_at=record.created_at,
            updated_at=record.updated_at,
            expires_at=record.expires_at,
            request=record.request,
        )

    def _memory(self, memory: Memory, user_id: str) -> Memory:
        """The inner driver's memory as the one of the tenant's user."""
        self._check_owner(memory, self._prefix + user_id)
        return replace(memory, user_id=user_id)

    def _unboxed(self, memory: Memory) -> Knowledge:
        """The knowledge that the inner driver keeps as this memory."""
        self._check_owner(memory, self._knowledge)
        box = memory.metadata
        own = {key.removeprefix(_OWN): box[key] for key in box if key.startswith(_OWN)}
        own |= box.get("metadata", {})  # what was kept before filters has all of it there
        return Knowledge(
            knowledge_id=memory.memory_id,
            content=memory.content,
            category=memory.conversation_id or "",
            title=box.get(_TITLE),
            doc_id=box.get(DOC_ID),
            metadata=own,
            created_at=memory.created_at,
            updated_at=memory.updated_at,
            expires_at=memory.expires_at,
            position=box.get(POSITION),
            request=memory.request,
            score=memory.score,
            repeated=memory.repeated,
        )

    def _check_owner(self, memory: Memory, owner: str) -> None:
        if memory.user_id != owner:
            raise DriverError(reason=f"{self._inner.name} gave a memory of another user")


def _in_box(wanted: RecallKnowledge) -> Filter:
    """The filter of the memories that tenants' knowledge is kept as."""
    boxed = _of_box(wanted.filter)
    if wanted.doc_id is not None:
        of_document = Condition(DOC_ID, "eq", (Scalar("text", wanted.doc_id),))
        boxed = replace(boxed, metadata=(*boxed.metadata, of_document))
    return boxed


def _of_box(wanted: Filter) -> Filter:
    """The same filter, on the metadata that is in the memory's."""
    own = tuple(replace(one, key=_OWN + one.key) for one in wanted.metadata)
    return replace(wanted, metadata=own)
