"""The journal's tables, the same in PostgreSQL and in SQLite.

`journal_entries` has each write once; `journal_deliveries` a row for each driver that still has to
get it, deleted when it has; `journal_tombstones` what was deleted, which outlives the delete's own
entry; `journal_targets` a row for each driver that was ever held, locked while a
process delivers to it.

Moments are microseconds since the epoch.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    cast,
    inspect,
    select,
    update,
)
from sqlalchemy.schema import CreateColumn

from app.core.memory.moments import from_microseconds, to_microseconds

T = TypeVar("T")

KEYS_AT_ONCE = 500
"""How many ids one statement names."""

_SEQ = BigInteger().with_variant(Integer, "sqlite")

metadata = MetaData()

entries = Table(
    "journal_entries",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("wrapper", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("user_id", Text),
    Column("record_id", Text),
    Column("records", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("held_until", Float, key="leased_until", nullable=False),
    Column("before", BigInteger),
    Column("replaces", BigInteger),
    Column("doc_id", Text),
    Index("journal_entries_by_user", "wrapper", "user_id", "verb", "seq"),
    sqlite_autoincrement=True,  # a place is never given twice
)

deliveries = Table(
    "journal_deliveries",
    metadata,
    Column("seq", _SEQ, ForeignKey("journal_entries.seq", ondelete="cascade"), primary_key=True),
    Column("target", Text, primary_key=True),
    Column("parked", Boolean, key="dead_letter", nullable=False, default=False),
    Index("journal_deliveries_by_target", "target", "seq"),
)

tombstones = Table(
    "journal_tombstones",
    metadata,
    Column("seq", _SEQ, primary_key=True),
    Column("wrapper", Text, nullable=False),
    Column("verb", Text, nullable=False),
    Column("user_id", Text),
    Column("record_id", Text),
    Column("created_at", Float, nullable=False),
    Column("before", BigInteger),
    Column("doc_id", Text),
    Index("journal_tombstones_of_record", "wrapper", "record_id"),
    Index("journal_tombstones_of_user", "wrapper", "user_id"),
    Index("journal_tombstones_of_document", "wrapper", "doc_id"),
)

targets = Table(
    "journal_targets",
    metadata,
    Column("wrapper", Text, primary_key=True),
    Column("target", Text, primary_key=True),
)


_ADDED = (
    entries.c.before,
    entries.c.replaces,
    tombstones.c.before,
    entries.c.doc_id,
    tombstones.c.doc_id,
)
"""Columns that a journal lacks from before updates, and from before documents (both 2026-11)."""


def create(connection: Connection) -> None:
    """Make the tables, columns and indexes that are missing; raises if a column still is."""
    metadata.create_all(connection)
    for column in _ADDED:
        _add(connection, column)
    for table in metadata.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)
        connection.execute(select(table).limit(0))


def _add(connection: Connection, column: Column[Any]) -> None:
    """Add the column if it is missing.

    A `delete_user` that has no moment gets the time of its entry.
    """
    table = column.table
    assert isinstance(table, Table)  # noqa: S101
    if column.name in {each["name"] for each in inspect(connection).get_columns(table.name)}:
        return
    added = CreateColumn(column).compile(dialect=connection.dialect)
    connection.exec_driver_sql(f"alter table {table.name} add column {added}")
    if column.name == "before":
        moment = cast(1_000_000 * table.c.created_at, BigInteger)
        deletes = update(table).where(table.c.verb == "delete_user")
        connection.execute(deletes.values(before=moment))


def from_moment(moment: datetime | None) -> int | None:
    """The moment in microseconds since the epoch."""
    return None if moment is None else to_microseconds(moment)


def to_moment(microseconds: int | None) -> datetime | None:
    """The moment in UTC."""
    return None if microseconds is None else from_microseconds(microseconds)


def parts(keys: Sequence[T]) -> list[Sequence[T]]:
    """The keys, as many at a time as one statement names."""
    return [keys[start : start + KEYS_AT_ONCE] for start in range(0, len(keys), KEYS_AT_ONCE)]
