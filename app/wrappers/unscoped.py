"""The part of a driver that is no tenant's."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.cursor import user_page
from app.core.memory.derived import Derived
from app.core.memory.records import (
    Kept,
    Key,
    Knowledge,
    KnowledgePage,
    Memory,
    MemoryPage,
    Record,
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
from app.errors import InvalidInput
from app.settings import Limits
from app.wrappers.base import WrappingDriver
from app.wrappers.scoped import AFTER_MARK, MARK


class UnscopedDriver(WrappingDriver):
    """Serves whoever has no tenant, beside the `ScopedDriver`s of those who have one, or had.

    It finds, changes and tells of nothing that is a tenant's. Knowledge needs no look: a tenant's
    is kept as memories. It has the inner driver's name.
    """

    def __init__(self, inner: BaseMemoryDriver, limits: Limits) -> None:
        super().__init__((inner,), limits)
        self.name = inner.name
        self._inner = self.inner[0]

    def _check_user(self, user_id: str, loc: tuple[str | int, ...] = ("user_id",)) -> None:
        if user_id.startswith(MARK):
            raise InvalidInput("user_id must not start with U+001F: tenants' users do", loc)

    async def _recall(self, wanted: Recall) -> list[Memory]:
        return await self._inner._recall(wanted)

    async def _recall_knowledge(self, wanted: RecallKnowledge) -> list[Knowledge]:
        return await self._inner._recall_knowledge(wanted)

    async def _get(self, wanted: Get) -> Record | None:
        found = await self._inner._get(wanted)
        return None if found is None or _is_tenants(found) else found

    async def _page(self, wanted: Page) -> MemoryPage:
        return await self._inner._page(wanted)

    async def _page_knowledge(self, wanted: PageKnowledge) -> KnowledgePage:
        return await self._inner._page_knowledge(wanted)

    async def _export(self, wanted: Export) -> AsyncIterator[Record]:
        """Those before the tenants' users, and those after them."""
        end = MARK if wanted.end is None else min(MARK, wanted.end)
        for part in (
            replace(wanted, end=end, knowledge=False),
            replace(wanted, start=max(AFTER_MARK, wanted.start)),
        ):
            if part.knowledge or part.end is None or part.start < part.end:
                async for record in self._inner._export(part):
                    yield record

    async def _model(self) -> Model | None:
        return await self._inner._model()

    async def _derived_of(self, records: Sequence[Record]) -> Sequence[Derived | None]:
        return await self._inner._derived_of(records)

    async def _gone(self, keys: Sequence[Key]) -> set[Key]:
        return await self._inner._gone(keys)

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        return await self._inner._keep(wanted)

    async def _put(self, wanted: Put[Kept]) -> tuple[Sequence[Kept], int]:
        return await self._inner._put(wanted)

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._inner._replace(wanted)

    async def _users(self, wanted: Users) -> UserPage:
        """Those before the tenants' users, and those after them."""
        before = UserPage([], None)
        if wanted.start < MARK:
            end = MARK if wanted.end is None else min(MARK, wanted.end)
            before = await self._inner._users(replace(wanted, end=end))
        done = wanted.end is not None and wanted.end <= AFTER_MARK
        if done or before.next_cursor is not None:
            return before
        more = wanted.limit + 1 - len(before.users)
        start = max(AFTER_MARK, wanted.start)
        after = await self._inner._users(replace(wanted, start=start, limit=more))
        return user_page([*before.users, *after.users], wanted.limit, after.next_cursor)

    async def _delete(self, wanted: Delete) -> int:
        if wanted.kind == "knowledge" or wanted.user_id is not None:
            return await self._inner._delete(wanted)
        deleted = 0
        for each in wanted.ids:
            found = await self._get(Get("memory", each))
            if isinstance(found, Memory):
                deleted += await self._inner._delete(Delete("memory", (each,), found.user_id))
        return deleted

    async def _forget(self, wanted: Forget) -> int:
        return await self._inner._forget(wanted)

    async def health_check(self) -> DriverHealth:
        return await self._inner.health_check()


def _is_tenants(record: Record) -> bool:
    return isinstance(record, Memory) and record.user_id.startswith(MARK)
