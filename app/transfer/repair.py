"""Makes one driver hold what another holds."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.codec import encode
from app.core.memory.record_driver import RecordDriver
from app.core.memory.records import Key, Memory, Record, key_of
from app.errors import CapabilityMissing, InvalidInput
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
    the target, and what it has copied there. Takes about 100 bytes of memory for each record.
    Raises `InvalidInput` where the two share records, `CapabilityMissing`, and what `settled` and
    the drivers raise; called again, it goes on.
    """
    source, target = _complete(source_driver), _complete(target_driver)
    _refuse_shared_records(source, target)
    wanted = {key_of(record): _digest(record) async for record in source.export_records()}
    different: set[Key] = set()
    extra: list[Record] = []
    async for record in target.export_records():
        digest = wanted.pop(key_of(record), None)
        if digest is None:
            extra.append(replace(record, content=""))
        elif digest != _digest(record):
            different.add(key_of(record))
    missing = set(wanted)
    found = Difference(len(missing), len(different), len(extra))
    if not dry_run:
        await _lose(source, target, extra, settled)
        async for batch in _batches(source, missing | different):
            await _give(source, target, batch, different, settled)
            await _lose(source, target, batch, settled)
    return found


def _complete(driver: BaseMemoryDriver) -> RecordDriver:
    if not isinstance(driver, RecordDriver):
        raise CapabilityMissing(f"The driver {driver.name!r} can't export records")
    return driver


def _refuse_shared_records(source: RecordDriver, target: RecordDriver) -> None:
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


async def _batches(driver: RecordDriver, keys: Set[Key]) -> AsyncIterator[list[Record]]:
    """The driver's records of these owners and ids."""
    if not keys:
        return
    batch: list[Record] = []
    async for record in driver.export_records():
        if key_of(record) in keys:
            batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


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
        await _delete(target, record)
        again.append(wanted)
    if again:
        await target.import_records(again)


async def _lose(
    source: RecordDriver,
    target: RecordDriver,
    records: Sequence[Record],
    settled: Callable[[], Awaitable[None]],
) -> None:
    """Delete in the target those of the records that the source lacks, once it is settled."""
    if records:
        await settled()
    for record in records:
        if await _get(source, record) is None:
            await _delete(target, record)


async def _get(driver: RecordDriver, record: Record) -> Record | None:
    """What the driver has under the record's id."""
    if isinstance(record, Memory):
        return await driver.get(record.memory_id, record.user_id)
    return await driver.get_knowledge(record.knowledge_id)


async def _delete(driver: RecordDriver, record: Record) -> None:
    if isinstance(record, Memory):
        await driver.delete(record.memory_id, record.user_id)
    else:
        await driver.delete_knowledge(record.knowledge_id)


def _digest(record: Record) -> bytes:
    return hashlib.sha256(encode([replace(record, score=None)]).encode()).digest()[:16]


def _same(one: Record, other: Record) -> bool:
    return _digest(one) == _digest(other)
