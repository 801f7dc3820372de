"""Which versions of a record are on their way to a driver."""

from datetime import datetime

from sqlalchemy import and_, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.records import key_of, record_id
from app.journal.entries import Write
from app.journal.tables import deliveries, entries


async def versions(
    connection: AsyncConnection, wrapper: str, update: Write, *, refused: bool
) -> list[datetime]:
    """The versions of the update's record that are in the journal; with `refused` dead letters too.

    They are in no order. What was stored under the id at another time has versions of its own.
    """
    (wanted,) = update.records
    stores = select(entries.c.records).where(
        entries.c.wrapper == wrapper,
        entries.c.verb.in_((update.verb, "put_document")),
        entries.c.user_id.is_not_distinct_from(update.user_id),
        entries.c.records.contains(record_id(wanted)),
    )
    if not refused:
        letters = and_(deliveries.c.seq == entries.c.seq, deliveries.c.dead_letter)
        stores = stores.where(~exists().where(letters))
    return [
        record.updated_at
        for found in (await connection.execute(stores)).scalars()
        for record in codec.decode(found)
        if key_of(record) == key_of(wanted) and record.created_at == wanted.created_at
    ]
