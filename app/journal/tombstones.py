"""What was deleted: a tombstone outlives its delete, and wins over every store, early or late."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias

from sqlalchemy import ColumnElement, Select, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.memory import codec
from app.core.memory.records import document_of, record_id
from app.errors import DeletePending
from app.journal.database import Database
from app.journal.entries import Entry, Write
from app.journal.tables import deliveries, entries, from_moment, parts, to_moment, tombstones

Lifted: TypeAlias = Literal["everything", "records", "documents"]
"""Which tombstones are lifted: also those of users, those of single records, or those of puts."""


async def bury(connection: AsyncConnection, wrapper: str, deleted: Sequence[Entry]) -> None:
    """Write a tombstone for each delete, or put."""
    rows = [
        {
            "seq": entry.seq,
            "wrapper": wrapper,
            "verb": entry.verb,
            "user_id": entry.user_id,
            "record_id": entry.record_id,
            "created_at": entry.created_at,
            "before": from_moment(entry.before),
            "doc_id": entry.doc_id,
        }
        for entry in deleted
    ]
    if rows:
        await connection.execute(insert(tombstones), rows)


async def is_put(connection: AsyncConnection, wrapper: str, put: Write) -> bool:
    """Whether there is a tombstone of a put of that document with that moment."""
    same = select(tombstones.c.seq).where(
        tombstones.c.wrapper == wrapper,
        tombstones.c.doc_id == put.doc_id,
        tombstones.c.user_id.is_not_distinct_from(put.user_id),
        tombstones.c.before == from_moment(put.before),
    )
    return (await connection.execute(same.limit(1))).first() is not None


async def lift(
    connection: AsyncConnection,
    wrapper: str,
    stored: Sequence[Write],
    *,
    of: Lifted = "everything",
) -> None:
    """Remove the tombstones of the stores' records, which are stored again.

    Those of users, and all else, only an import lifts, which brings back what was created before;
    any other store those of `records`, and an update that joins a document those of `documents`.
    Raises `DeletePending` while one of the deletes is pending for a
    driver, where it would undo the store, or an older store of what it deleted, which would come
    back.
    """
    rows = await _read(connection, wrapper, stored)
    lifted = [
        row
        for row in _that_kill(rows, stored)
        if of == "everything" or (row.before is None if of == "records" else row.doc_id is not None)
    ]
    if not lifted:
        return
    seqs = sorted(row.seq for row in lifted)
    for some in parts(seqs):
        pending = select(deliveries.c.seq).where(deliveries.c.seq.in_(some)).limit(1)
        if (await connection.execute(pending)).first() is not None:
            raise DeletePending(reason=f"{wrapper}: its delete is pending for a driver")
    gone = Tombstones(lifted)
    for verb, user_id in sorted({(write.verb, write.user_id or "") for write in stored}):
        pending = select(entries.c.records).where(
            entries.c.wrapper == wrapper,
            entries.c.verb.in_((verb, "put_document")),
            func.coalesce(entries.c.user_id, "") == user_id,
        )
        for text in (await connection.execute(pending)).scalars():
            earlier = Write(verb=verb, user_id=user_id or None, records=codec.decode(text))
            if gone.deletes(earlier):
                raise DeletePending(
                    reason=f"{wrapper}: an older store of it is pending for a driver"
                )
    for some in parts(seqs):
        await connection.execute(delete(tombstones).where(tombstones.c.seq.in_(some)))


def _that_kill(rows: Iterable[Any], stored: Sequence[Write]) -> list[Any]:
    """Those of `rows`, found by `_of`, that delete a record of the stores."""
    deleted = {
        (write.deleted_by, record_id(record), user_id)
        for write in stored
        for record in write.records
        for user_id in (write.user_id, None)
    }
    oldest: dict[tuple[str | None, str | None], datetime] = {}
    """By user, and by user and document, when the first of the records was created."""
    for write in stored:
        for record in write.records:
            for doc_id in {None, document_of(record)}:
                known = oldest.get((write.user_id, doc_id), record.created_at)
                oldest[write.user_id, doc_id] = min(known, record.created_at)

    def kills(row: Any) -> bool:
        before = to_moment(row.before)
        if before is not None:
            first = oldest.get((row.user_id, row.doc_id))
            return first is not None and first <= before
        return (row.verb, row.record_id, row.user_id) in deleted

    return [row for row in rows if kills(row)]


class Tombstones:
    """Tombstones that may delete records of some stores."""

    def __init__(self, rows: Iterable[Any]) -> None:
        """`rows` are what `of` reads."""
        self._of_users: dict[str, datetime] = {}
        """By user, the moment up to which the memories are deleted."""
        self._of_records: dict[tuple[str, str], set[str | None]] = {}
        """By verb and record id, whose record is deleted; None: whoever owns it."""
        self._of_documents: dict[tuple[str | None, str], Entry] = {}
        """By user and document, its latest put, without the records."""
        for row in rows:
            before = to_moment(row.before)
            if before is not None and row.doc_id is not None:
                self._add_put(row, before)
            elif before is not None:
                self._of_users[row.user_id] = max(before, self._of_users.get(row.user_id, before))
            else:
                self._of_records.setdefault((row.verb, row.record_id), set()).add(row.user_id)

    @classmethod
    async def of(cls, database: Database, wrapper: str, stored: Sequence[Write]) -> "Tombstones":
        """Read the tombstones that may delete records of the stores."""
        rows: list[Any] = []
        for wanted in _of(wrapper, stored):
            rows += await database.rows(wanted)
        return cls(rows)

    @classmethod
    async def within(
        cls, connection: AsyncConnection, wrapper: str, stored: Sequence[Write]
    ) -> "Tombstones":
        """The same in a transaction."""
        return cls(await _read(connection, wrapper, stored))

    def _add_put(self, row: Any, before: datetime) -> None:
        put = Entry(
            verb="put_document",
            user_id=row.user_id,
            before=before,
            doc_id=row.doc_id,
            seq=row.seq,
            created_at=row.created_at,
        )
        known = self._of_documents.get((row.user_id, row.doc_id))
        if known is None or known.before is None or known.before < before:
            self._of_documents[row.user_id, row.doc_id] = put

    def puts_over(self, stored: Write) -> list[Entry]:
        """The latest puts of documents that replace records of the store; without their records."""
        documents = {document_of(record) for record in stored.records} - {None}
        found = [self._of_documents.get((stored.user_id, doc or "")) for doc in documents]
        puts = [put for put in found if put is not None]
        return [put for put in puts if any(map(put.deletes, stored.records))]

    def deletes(self, stored: Write) -> list[Write]:
        """The deletes that reach records of the store, and the puts that replace some.

        That of a user names its moment: what is stored later under the same id stays.
        """
        return [*self.deletes_by_id(stored), *self.puts_over(stored)]

    def deletes_by_id(self, stored: Write) -> list[Write]:
        """The deletes alone."""
        found: list[Write] = []
        forgotten = self._of_users.get(stored.user_id) if stored.user_id is not None else None
        if forgotten is not None and any(r.created_at <= forgotten for r in stored.records):
            found.append(Write(verb="delete_user", user_id=stored.user_id, before=forgotten))
        for one in map(record_id, stored.records):
            owners = self._of_records.get((stored.deleted_by, one), ())
            if not {None, stored.user_id}.isdisjoint(owners):
                found.append(Write(verb=stored.deleted_by, user_id=stored.user_id, record_id=one))
        return found


async def _read(connection: AsyncConnection, wrapper: str, stored: Sequence[Write]) -> list[Any]:
    rows: list[Any] = []
    for wanted in _of(wrapper, stored):
        rows += (await connection.execute(wanted)).all()
    return rows


def _of(wrapper: str, stored: Sequence[Write]) -> list[Select[Any]]:
    """The queries for the tombstones that may delete records of the stores."""
    users = sorted({write.user_id for write in stored if write.user_id is not None})
    records = [record for write in stored for record in write.records]
    ids = sorted(set(map(record_id, records)))
    documents = sorted({doc_id for doc_id in map(document_of, records) if doc_id is not None})
    of_users = tombstones.c.verb == "delete_user"
    asked: list[ColumnElement[bool]] = [
        of_users & tombstones.c.user_id.in_(some) for some in parts(users)
    ]
    asked += [tombstones.c.record_id.in_(some) for some in parts(ids)]
    asked += [tombstones.c.doc_id.in_(some) for some in parts(documents)]
    return [
        select(
            tombstones.c.seq,
            tombstones.c.verb,
            tombstones.c.user_id,
            tombstones.c.record_id,
            tombstones.c.before,
            tombstones.c.doc_id,
            tombstones.c.created_at,
        ).where(tombstones.c.wrapper == wrapper, concerned)
        for concerned in asked
    ]
