"""The part of a driver that is no tenant's."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from app.core.memory.base import BaseMemoryDriver, DriverHealth
from app.core.memory.records import Knowledge, Memory, NewMemory
from app.errors import InvalidInput
from app.wrappers.base import Call, WrappingDriver
from app.wrappers.scoped import MARK, owner_in


class UnscopedDriver(WrappingDriver):
    """Serves whoever has no tenant, beside the `ScopedDriver`s of those who have one, or had.

    It finds, changes and tells of nothing that is a tenant's. Knowledge needs no look: a tenant's
    is kept as memories. To all others it is the inner driver, under its name.
    """

    def __init__(self, inner: BaseMemoryDriver) -> None:
        super().__init__((inner,))
        self.name = inner.name

    async def delete(self, memory_id: str, user_id: str | None = None) -> bool:
        if user_id is None:
            user_id = await self.owner_of(memory_id)
            return user_id is not None and await super().delete(memory_id, user_id)
        return await super().delete(memory_id, user_id)

    async def owner_of(self, memory_id: str) -> str | None:
        owner = await owner_in(self, memory_id)
        return None if owner is None or owner.startswith(MARK) else owner

    async def export_records(self) -> AsyncIterator[Memory | Knowledge]:
        async for record in super().export_records():
            if isinstance(record, Knowledge) or not record.user_id.startswith(MARK):
                yield record

    async def health_check(self) -> DriverHealth:
        return await self.inner[0].health_check()

    async def _read(self, call: Call) -> Any:
        for name, value in call.arguments.items():
            if name == "user_id":
                _check(value, (name,))
            elif isinstance(value, Sequence) and not isinstance(value, str):
                for n, each in enumerate(value):
                    if isinstance(each, Memory | NewMemory):
                        _check(each.user_id, (name, n, "user_id"))
        return await call.on(self.inner[0])

    async def _write(self, call: Call) -> Any:
        return await self._read(call)


def _check(user_id: object, loc: tuple[str | int, ...]) -> None:
    """Refuse the id of a tenant's user."""
    if isinstance(user_id, str) and user_id.startswith(MARK):
        raise InvalidInput("user_id must not start with U+001F: tenants' users do", loc)
