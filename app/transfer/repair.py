"""Makes one driver hold what another holds."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from dataclasses import dataclass, replace

from app.core.memory.base import (
    BaseMemoryDriver,
    SupportsDeleteKnowledge,
    SupportsExport,
    SupportsGet,
    SupportsGetKnowledge,
    SupportsImport,
    require,
)
from app.core.memory.codec import Record, encode, record_id
from app.core.memory.records import Memory
from app.errors import InvalidInput

_BATCH = 200


@dataclass(frozen=True, slots=True)
class Difference:
    """How many records the target had to be given, to be given anew, or to lose."""

    missing: int = 0
    different: int = 0
    extra: int = 0

    @property
    def none(self) -> bool:
        """Whether both held the same."""
        return not (self.missing or self.different or self.extra)


async def _at_once() -> None:
    pass


async def repair(
    source: BaseMemoryDriver,
    target: BaseMemoryDriver,
    *,
    dry_run: bool = False,
    settled: Callable[[], Awaitable[None]] = _at_once,
) -> Difference:
    """Compare every record, and, but for a dry run, make `target` hold what `source` does.

    Both may be written to meanwhile: what is about to leave `target`, and what came there, is
    looked up once more in `source` when `settled` returns, as it then has the writes that are under
    way. Holds about 100 bytes for each record in memory. Raises `InvalidInput` where they have
    records in common, `CapabilityMissing`, and what `settled` and the drivers raise; called again,
    it goes on.
    """
    _refuse_one_in_two_guises(source, target)
    wanted = {record_id(record): _digest(record) async for record in _all(source)}
    different: set[str] = set()
    extra: list[Record] = []
    async for record in _all(target):
        digest = wanted.pop(record_id(record), None)
        if digest is None:
            extra.append(replace(record, content=""))
        elif digest != _digest(record):
            different.add(record_id(record))
    missing = set(wanted)
    found = Difference(len(missing), len(different), len(extra))
    if not dry_run:
        await _lose(source, target, extra, settled)
        async for batch in _batches(source, missing | different):
            await _give(target, batch, different)
            await _lose(source, target, batch, settled)
    return found


def _refuse_one_in_two_guises(source: BaseMemoryDriver, target: BaseMemoryDriver) -> None:
    """What is deleted in the target must not be deleted in the source with it."""
    same = source.leaves() & target.leaves()
    known = (source.identity() or frozenset()) & (target.identity() or frozenset())
    if same or known:
        names = ", ".join(sorted(driver.name for driver in same)) or "the same records"
        raise InvalidInput(
            f"target must share nothing with source: {source.name} and {target.name} both hold "
            f"{names}",
            ("target",),
        )


async def _batches(driver: BaseMemoryDriver, ids: Set[str]) -> AsyncIterator[list[Record]]:
    """The driver's records of these ids."""
    if not ids:
        return
    batch: list[Record] = []
    async for record in _all(driver):
        if record_id(record) in ids:
            batch.append(record)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


async def _give(target: BaseMemoryDriver, records: Sequence[Record], different: Set[str]) -> None:
    """An import leaves what is there, so what is `different` there has to go first."""
    for record in records:
        if record_id(record) in different:
            await _delete(target, record)
    await require(target, SupportsImport).import_records(records)


async def _lose(
    source: BaseMemoryDriver,
    target: BaseMemoryDriver,
    records: Sequence[Record],
    settled: Callable[[], Awaitable[None]],
) -> None:
    """Let the target lose those that the source does not have, nor is about to get."""
    if records:
        await settled()
    for record in records:
        if not await _has(source, record):
            await _delete(target, record)


async def _all(driver: BaseMemoryDriver) -> AsyncIterator[Record]:
    async for record in require(driver, SupportsExport).export_records():
        yield record


async def _has(driver: BaseMemoryDriver, record: Record) -> bool:
    if isinstance(record, Memory):
        getting = require(driver, SupportsGet)
        return await getting.get(record.memory_id, record.user_id) is not None
    knowledge = require(driver, SupportsGetKnowledge)
    return await knowledge.get_knowledge(record.knowledge_id) is not None


async def _delete(driver: BaseMemoryDriver, record: Record) -> None:
    if isinstance(record, Memory):
        await driver.delete(record.memory_id, record.user_id)
    else:
        await require(driver, SupportsDeleteKnowledge).delete_knowledge(record.knowledge_id)


def _digest(record: Record) -> bytes:
    return hashlib.sha256(encode([replace(record, score=None)]).encode()).digest()[:16]
