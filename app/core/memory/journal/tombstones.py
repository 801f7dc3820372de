"""What was deleted: a tombstone outlives its delete, and kills stores that come late."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, or_, select

from app.core.memory import codec
from app.core.memory.journal.database import Database
from app.core.memory.journal.entries import Entry
from app.core.memory.journal.order import IDS_AT_ONCE
from app.core.memory.journal.tables import tombstones


async def tombstones_of(database: Database, wrapper: str, stored: Sequence[Entry]) -> list[Any]:
    """Those of the stores' records and users, whoever deleted them and when."""
    ids = sorted({codec.record_id(record) for entry in stored for record in entry.records})
    users = sorted({entry.user_id for entry in stored if entry.user_id is not None})
    of_user = and_(tombstones.c.verb == "delete_user", tombstones.c.user_id.in_(users))
    found: list[Any] = []
    for start in range(0, len(ids), IDS_AT_ONCE):
        of_record = tombstones.c.record_id.in_(ids[start : start + IDS_AT_ONCE])
        wanted = select(tombstones).where(tombstones.c.wrapper == wrapper, or_(of_record, of_user))
        found += await database.rows(wanted)
    return found


def killed_by(stored: Entry, gone: Sequence[Any]) -> set[str]:
    """The ids of the store's records that one of the tombstones is for."""
    ids = {codec.record_id(record) for record in stored.records}
    killed: set[str] = set()
    for row in gone:
        if row.user_id not in (None, stored.user_id):
            continue
        later = row.seq > stored.seq
        if row.verb == "delete_user":
            if later:
                return ids
        # Nobody knew the ids before it was tried, which may be before it was journalled.
        elif row.record_id in ids and (later or row.created_at >= stored.created_at):
            killed.add(row.record_id)
    return killed
