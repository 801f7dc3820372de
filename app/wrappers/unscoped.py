"""The part of a driver that is no tenant's."""

from collections.abc import AsyncIterator, Sequence

from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.records import Kept, Knowledge, Memory, MemoryPage, Record
from app.core.memory.requests import (
    Delete,
    Forget,
    Get,
    Keep,
    Page,
    Recall,
    RecallKnowledge,
    Replace,
)
from app.errors import InvalidInput
from app.settings import Limits
from app.wrappers.base import WrappingDriver
from app.wrappers.scoped import MARK


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

    async def _export(self) -> AsyncIterator[Record]:
        async for record in self._inner._export():
            if not _is_tenants(record):
                yield record

    async def _keep(self, wanted: Keep[Kept]) -> Sequence[Kept]:
        return await self._inner._keep(wanted)

    async def _replace(self, wanted: Replace[Kept]) -> bool:
        return await self._inner._replace(wanted)

    async def _delete(self, wanted: Delete) -> bool:
        if wanted.kind == "memory" and wanted.user_id is None:
            found = await self._get(Get("memory", wanted.record_id))
            if not isinstance(found, Memory):
                return False
            wanted = Delete("memory", wanted.record_id, found.user_id)
        return await self._inner._delete(wanted)

    async def _forget(self, wanted: Forget) -> int:
        return await self._inner._forget(wanted)

    async def health_check(self) -> DriverHealth:
        return await self._inner.health_check()


def _is_tenants(record: Record) -> bool:
    return isinstance(record, Memory) and record.user_id.startswith(MARK)
