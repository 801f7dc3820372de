"""What is pending under the ids that callers give: no second record is stored there."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.once import repeated
from app.core.memory.records import Key, Record, is_alive, key_of, latest, record_id
from app.journal.database import Database
from app.journal.entries import NOTHING, Write
from app.journal.tables import deliveries, entries, from_moment
from app.journal.tombstones import Tombstones

_ONE_AT_A_TIME = text("select pg_advisory_xact_lock(hashtextextended(:record, 0))")


async def lock(
    connection: AsyncConnection, database: Database, wrapper: str, ids: Sequence[str]
) -> None:
    """Let no other process look for what is pending under these ids until the transaction ends."""
    if database.shared:  # a file has one transaction at a time
        names = [{"record": f"{wrapper} {one}"} for one in sorted(set(ids))]
        await connection.execute(_ONE_AT_A_TIME, names)


async def pending(
    connection: AsyncConnection,
    wrapper: str,
    driver: str,
    stored: Sequence[Write],
    *,
    undecided: bool,
    now: Any,
) -> list[Record | None]:
    """For each store of one record, the latest version that is pending for the driver; or None.

    Deleted and expired ones are none. `undecided`: the driver has still to decide about stores
    under callers' ids, and their callers have their answers already. Raises `Conflict` with the
    place of a store of which the pending one is another request.
    """
    decided: ColumnElement[bool] = entries.c.replaces.is_(None)
    if undecided:
        decided = decided | (entries.c.replaces == from_moment(NOTHING))
    found: dict[Key, Record] = {}
    for verb, user_id in sorted({(write.verb, write.user_id or "") for write in stored}):
        waiting = (
            select(entries.c.records)
            .join(deliveries, deliveries.c.seq == entries.c.seq)
            .where(
                entries.c.wrapper == wrapper,
                entries.c.verb.in_((verb, "put_document")),
                entries.c.user_id.is_not_distinct_from(user_id or None),
                deliveries.c.target == driver,
                decided,
            )
        )
        if len(stored) == 1:
            waiting = waiting.where(entries.c.records.contains(record_id(stored[0].records[0])))
        rows = (await connection.execute(waiting)).scalars()
        records = [record for each in rows for record in codec.decode(each)]
        write = Write(verb=verb, user_id=user_id or None, records=records)
        deletes = (await Tombstones.within(connection, wrapper, [write])).deletes(write)
        alive = [r for r in records if not any(each.deletes(r) for each in deletes)]
        found |= latest(alive, key_of)
    answer: list[Record | None] = []
    for place, write in enumerate(stored):
        (record,) = write.records
        there = found.get(key_of(record))
        known = there is not None and is_alive(there, now)
        answer.append(repeated(there, record, place) if there is not None and known else None)
    return answer
