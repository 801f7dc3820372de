"""Putting a record in the place of an older version.

The new version is stored, then the older ones are deleted: while both are there, every read shows
the latest. Where the time of the new version is another one, so that AutoMem has it elsewhere, it
is stored beside each older version as well, and deleted there after that.

AutoMem's PATCH is no way: AutoMem enriches a memory for a while after its store, and writes the
metadata and the tags that it had read before over those of a PATCH.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from app.core.memory.records import Key, Record, key_of, latest, record_id
from app.drivers.automem.mapping import Row
from app.drivers.automem.versions import displaced, outdated
from app.drivers.automem.writing import Writer
from app.errors import MemoryServiceError, PartlyStored
from app.logs import get_logger

_log = get_logger(__name__)


class Replacer:
    """Keeps the latest version of each record."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def keep(self, records: Sequence[Record]) -> None:
        """Store each record, unless AutoMem has this version of it or a later one.

        When it fails, some may be kept: called again it keeps the rest.
        """
        given = latest(records, key_of)
        there = await self.versions(given.values())
        due = [
            record
            for key, record in given.items()
            if all(row.record.updated_at < record.updated_at for row in there[key])
        ]
        if due:
            await self._put(due, there)
        changed = set(map(key_of, due))
        await self.tidy([given[key] for key in given if key in changed or _left(there[key])])

    async def replace(self, record: Record, rows: Sequence[Row]) -> bool:
        """Whether it put the record in the place of these rows; False where a later one is there.

        Another process may have put it there since the rows were read.
        """
        key = key_of(record)
        await self._put([record], {key: rows})
        there = await self.tidy([record])
        return all(row.record.updated_at <= record.updated_at for row in there)

    async def _put(self, records: Sequence[Record], there: dict[Key, Sequence[Row]]) -> None:
        kept = 0
        try:
            async for count in self._writer.put(records, there):
                kept += count
        except MemoryServiceError as error:
            if not kept:
                raise
            raise PartlyStored(
                f"The first {kept} of {len(records)} records are stored", reason=error.reason
            ) from error

    async def tidy(self, records: Sequence[Record]) -> list[Row]:
        """Delete the older versions of the records, and what was beside them; all that was there.

        A failure is not the caller's: the records are stored, no read shows the older versions, and
        the next write of a record deletes them.
        """
        there: list[Row] = []
        try:
            for rows in (await self.versions(records)).values():
                there += rows
            await self._writer.delete(_left(there))
        except MemoryServiceError as error:
            _log.warning("automem_older_versions_left", records=len(records), reason=error.reason)
        return there

    async def versions(self, records: Iterable[Record]) -> dict[Key, Sequence[Row]]:
        """What AutoMem has of each record."""
        wanted = {key_of(record): record for record in records}
        found: dict[Key, list[Row]] = defaultdict(list)
        for row in await self._writer.find(map(record_id, wanted.values())):
            found[key_of(row.record)].append(row)
        return {key: found[key] for key in wanted}


def _left(rows: Sequence[Row]) -> list[Row]:
    """The rows that are not needed: the older versions, and what is beside them."""
    return [*outdated(rows), *displaced(rows)]
