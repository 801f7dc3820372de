"""What was deleted: a tombstone outlives its delete, and kills stores that come late."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory.records import record_id
from app.journal.database import Database
from app.journal.entries import Entry
from app.journal.order import parts
from app.journal.tables import tombstones


async def bury(connection: AsyncConnection, wrapper: str, deleted: Sequence[Entry]) -> None:
    """Leave a tombstone of each delete."""
    rows = [
        {
            "seq": entry.seq,
            "wrapper": wrapper,
            "verb": entry.verb,
            "user_id": entry.user_id,
            "record_id": entry.record_id,
            "created_at": entry.created_at,
        }
        for entry in deleted
    ]
    if rows:
        await connection.execute(insert(tombstones), rows)


class Tombstones:
    """Those of some stores' records and users, whoever deleted them and when."""

    def __init__(self, rows: Iterable[Any]) -> None:
        self._of_users: dict[str, int] = {}
        self._of_records: dict[tuple[str, str], list[tuple[int, float, str | None]]] = {}
        """By the verb, memories' or knowledge's, and the record's id."""
        for seq, verb, user_id, one, created_at in rows:
            if verb == "delete_user":
                self._of_users[user_id] = max(seq, self._of_users.get(user_id, seq))
            else:
                found = self._of_records.setdefault((verb, one), [])
                found.append((seq, created_at, user_id))

    @classmethod
    async def of(cls, database: Database, wrapper: str, stored: Sequence[Entry]) -> "Tombstones":
        """Those that the stores may be killed by."""
        of_verb = tombstones.c.verb == "delete_user"
        users = sorted({entry.user_id for entry in stored if entry.user_id is not None})
        ids = sorted({record_id(record) for entry in stored for record in entry.records})
        asked: list[ColumnElement[bool]] = [
            of_verb & tombstones.c.user_id.in_(some) for some in parts(users)
        ]
        asked += [tombstones.c.record_id.in_(some) for some in parts(ids)]
        rows: list[Any] = []
        for concerned in asked:
            wanted = select(
                tombstones.c.seq,
                tombstones.c.verb,
                tombstones.c.user_id,
                tombstones.c.record_id,
                tombstones.c.created_at,
            ).where(tombstones.c.wrapper == wrapper, concerned)
            rows += await database.rows(wanted)
        return cls(rows)

    def killed(self, stored: Entry) -> set[str]:
        """The ids of the store's records that are deleted."""
        ids = {record_id(record) for record in stored.records}
        if stored.user_id is not None and self._of_users.get(stored.user_id, 0) > stored.seq:
            return ids
        # Nobody knew the ids before it was tried, which may be before it was journalled.
        return {
            one
            for one in ids
            if any(
                user_id in (None, stored.user_id)
                and (seq > stored.seq or created_at >= stored.created_at)
                for seq, created_at, user_id in self._of_records.get((stored.deleted_by, one), ())
            )
        }
