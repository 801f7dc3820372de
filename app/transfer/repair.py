"""Makes one driver hold what another holds."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Memory, Record, key_of
from app.errors import CapabilityMissing, InvalidInput
from app.transfer.batches import batches
from app.transfer.comparing import Differing, differences, digest, of_owner
from app.transfer.deleting import delete
from app.wrappers.base import WrappingDriver

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """How many records the target lacked, had otherwise than the source, or had too many."""

    missing: int = 0
    different: int = 0
    extra: int = 0

    @property
    def none(self) -> bool:
        """Whether both held the same."""
        return not (self.missing or self.different or self.extra)


async def _at_once() -> None:
    pass


async def repair_named(
    drivers: Mapping[str, BaseMemoryDriver], source: str, target: str, *, dry_run: bool = False
) -> Difference:
    """`repair` between two of `drivers`, given by name, with the help of the wrapping drivers.

    The wrapping drivers first deliver what is pending for the target, which would undo the repair
    later, and are told afterwards that the target's records changed. Raises `InvalidInput` for a
    name that is not in `drivers`, and what `repair` raises.
    """
    for field, name in (("source", source), ("target", target)):
        if name not in drivers:
            raise InvalidInput(f"{field} must be one of: {', '.join(drivers)}", (field,))
    if source == target:
        raise InvalidInput("target must be another driver than source", ("target",))
    holding = [driver for driver in drivers.values() if isinstance(driver, WrappingDriver)]
    if not dry_run:
        for driver in holding:
            await driver.catch_up(target)

    async def settled() -> None:
        for driver in holding:
            await driver.settled(source)

    try:
        return await repair(drivers[source], drivers[target], dry_run=dry_run, settled=settled)
    finally:  # a repair that failed may have mended a part
        if not dry_run:
            for driver in holding:
                await driver.mended(target)


async def repair(
    source_driver: BaseMemoryDriver,
    target_driver: BaseMemoryDriver,
    *,
    dry_run: bool = False,
    settled: Callable[[], Awaitable[None]] = _at_once,
) -> Difference:
    """Compare every record and, unless `dry_run`, make the target hold what the source holds.

    Callers may write to both meanwhile. `settled` returns when the source has every write that is
    pending for it now; repair then looks up in the source once more what it is about to delete in
    the target, and what it has copied there. Raises `InvalidInput` where the two share records,
    `CapabilityMissing`, and what `settled` and the drivers raise; called again, it goes on.
    """
    source, target = complete(source_driver), complete(target_driver)
    refuse_shared_records(source, target)
    missing = different = extra = 0
    parts: list[Differing] = []

    async def mend() -> None:
        await _mend(source, target, parts, settled)
        parts.clear()

    async for part in differences(source, target):
        missing, different = missing + len(part.missing), different + len(part.different)
        extra += len(part.extra)
        if not dry_run:
            parts.append(part)
            if sum(map(len, parts)) >= _BATCH:
                await mend()
    await mend()
    return Difference(missing, different, extra)


async def _mend(
    source: RecordDriver,
    target: RecordDriver,
    parts: Sequence[Differing],
    settled: Callable[[], Awaitable[None]],
) -> None:
    """Make the target hold what the source holds of these records."""
    await _lose(source, target, [key for part in parts for key in part.extra], settled)
    for part in parts:
        wanted = part.missing | part.different
        async for batch in batches(_those(source, part.user_id, wanted)):
            await _give(source, target, batch, part.different, settled)
            await _lose(source, target, [key_of(record) for record in batch], settled)


async def _those(driver: RecordDriver, owner: str | None, keys: Set[Key]) -> AsyncIterator[Record]:
    """The owner's records of these keys."""
    if keys:
        async for record in of_owner(driver, owner):
            if key_of(record) in keys:
                yield record


def complete(driver: BaseMemoryDriver) -> RecordDriver:
    if not isinstance(driver, RecordDriver):
        raise CapabilityMissing(f"The driver {driver.name!r} can't export records")
    return driver


def refuse_shared_records(source: RecordDriver, target: RecordDriver) -> None:
    """Raise `InvalidInput` where a delete in the target would delete in the source too."""
    same = source.leaves() & target.leaves()
    known = (source.identity() or frozenset()) & (target.identity() or frozenset())
    if same or known:
        names = ", ".join(sorted(driver.name for driver in same)) or "the same records"
        raise InvalidInput(
            f"target must share nothing with source: {source.name} and {target.name} both hold "
            f"{names}",
            ("target",),
        )


async def _give(
    source: RecordDriver,
    target: RecordDriver,
    records: Sequence[Record],
    different: Set[Key],
    settled: Callable[[], Awaitable[None]],
) -> None:
    """Import the source's records, also where the target has another version of one.

    An import replaces older versions alone. Any other version is deleted first, unless the source
    gets it by a write that is pending now.
    """
    await target.import_records(records)
    left: list[Record] = []
    for record in records:
        there = await _get(target, record) if key_of(record) in different else None
        if there is not None and not _same(there, record):
            left.append(there)
    if not left:
        return
    await settled()
    again: list[Record] = []
    for record in left:
        wanted, there = await _get(source, record), await _get(target, record)
        if wanted is None or there is None or _same(there, wanted) or not _same(there, record):
            continue
        await delete(target, key_of(record))
        again.append(wanted)
    if again:
        await target.import_records(again)


async def _lose(
    source: RecordDriver,
    target: RecordDriver,
    keys: Sequence[Key],
    settled: Callable[[], Awaitable[None]],
) -> None:
    """Delete in the target those of the records that the source lacks, once it is settled."""
    if keys:
        await settled()
    for start in range(0, len(keys), _BATCH):
        for key in await source.gone(keys[start : start + _BATCH]):
            await delete(target, key)


async def _get(driver: RecordDriver, record: Record) -> Record | None:
    """What the driver has under the record's id."""
    if isinstance(record, Memory):
        return await driver.get(record.memory_id, record.user_id)
    return await driver.get_knowledge(record.knowledge_id)


def _same(one: Record, other: Record) -> bool:
    return digest(one) == digest(other)
