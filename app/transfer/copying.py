"""Every record of one driver into another, while services go on writing."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Record, key_of
from app.transfer.batches import ahead, batches, made_of
from app.transfer.comparing import Compared, Differing, differences
from app.transfer.deleting import delete
from app.transfer.state import State

_AT_ONCE: Final = 5
"""Batches under way: some are made ready while the target writes one."""
_LOOKED_UP: Final = 1_000
"""Of an owner, records that differ and are looked up again, one by one."""

_Begun: TypeAlias = tuple[list[Key], list[Record]]
"""A batch with its owners and ids."""


@dataclass(slots=True)
class Copied:
    """What a copy has done so far."""

    records: int = 0
    vectors: bool = False
    """Whether the vectors come along, because both have them by the same model."""
    deleted: int = 0
    """Records that were deleted in the source while they were copied, and so in the target."""


@dataclass(slots=True)
class Verified:
    """What differs after a copy."""

    missing: int = 0
    different: int = 0
    extra: int = 0
    named: list[tuple[str, Key]] = field(default_factory=list)
    """Some of them: what is wrong, and the record's owner and id."""

    @property
    def none(self) -> bool:
        """Whether the target holds what the source holds."""
        return not (self.missing or self.different or self.extra)

    def add(self, what: str, keys: Iterable[Key], most: int) -> None:
        """Count these records, and name them as long as fewer than `most` are named."""
        keys = sorted(keys, key=lambda key: (key[0] is None, key[0] or "", key[1]))
        setattr(self, what, getattr(self, what) + len(keys))
        self.named += [(what, key) for key in keys[: max(0, most - len(self.named))]]


async def copy(
    source: RecordDriver,
    target: RecordDriver,
    state: State,
    user_id: str | None = None,
    *,
    since: datetime | None = None,
    told: Copied | None = None,
) -> Copied:
    """Bring every record of the source, as it is, to the target: of one user, or of all.

    What the target has in the same version, or in a later one, stays there. Callers may write to
    both meanwhile, through a driver that brings every write to both: what was deleted in the source
    since it was read is deleted in the target again. `state` tells where a copy that was killed
    goes on. Raises what the drivers raise.
    """
    told = told or Copied()
    one, other = await source.model(), await target.model()
    told.vectors = one is not None and other is not None and one.is_same(other)
    told.deleted += await _settle(source, target, state.doubt)
    state.doubt = []
    told.records = state.records
    if user_id is None:
        records = source.export_records(since=since, start=state.owner)
    else:
        records = source.export_records(user_id, since=since)

    async def begun(read: AsyncIterator[list[Record]]) -> AsyncIterator[_Begun]:
        """The batches, once the state tells of them."""
        async for batch in read:
            keys = [key_of(record) for record in batch]
            await state.begin(keys)
            yield keys, batch

    async def bring(one: _Begun) -> tuple[list[Key], int]:
        """The owners and ids of a batch that the target has, and how many are deleted again."""
        keys, batch = one
        derived = await source.derived_of(batch) if told.vectors else ()
        await target.import_records(batch, derived)
        return keys, await _settle(source, target, keys)

    async with (
        aclosing(ahead(batches(records))) as coming,
        aclosing(made_of(begun(coming), bring, _AT_ONCE)) as brought,
    ):
        async for keys, deleted in brought:
            told.deleted += deleted
            state.end(keys)
            told.records = state.records
    return told


async def verify(
    source: RecordDriver,
    target: RecordDriver,
    user_id: str | None = None,
    *,
    since: datetime | None = None,
    told: Compared | None = None,
    named: int = 20,
    again: Callable[[], Awaitable[bool]] | None = None,
) -> Verified:
    """Compare every record of the two, and name up to `named` of those that differ.

    What differs is looked up again as long as `again` says so: a write that is under way reaches
    one of the two first.
    """
    found = Verified()
    async for part in differences(source, target, user_id, since=since, told=told):
        while part and len(part) <= _LOOKED_UP and again is not None and await again():
            part = await _still(source, target, part)
        found.add("missing", part.missing, named)
        found.add("different", part.different, named)
        found.add("extra", part.extra, named)
    return found


async def _settle(source: RecordDriver, target: RecordDriver, keys: Sequence[Key]) -> int:
    """Delete in the target what the source has lost since it was read; how many there were.

    Whoever deletes it after this look deletes it in the target later, too.
    """
    return sum([await delete(target, key) for key in await source.gone(keys)]) if keys else 0


async def _still(source: RecordDriver, target: RecordDriver, part: Differing) -> Differing:
    """Those records of the part that differ now."""
    found = Differing(part.user_id)
    for key in part.missing | part.different | part.extra:
        one, other = await _get(source, key), await _get(target, key)
        if one is not None and other is None:
            found.missing.add(key)
        elif one is None and other is not None:
            found.extra.add(key)
        elif one != other:
            found.different.add(key)
    return found


async def _get(driver: RecordDriver, key: Key) -> Record | None:
    user_id, one = key
    return await (driver.get_knowledge(one) if user_id is None else driver.get(one, user_id))
