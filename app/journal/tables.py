"""The journal's tables, the same in PostgreSQL and in SQLite.

`journal_entries` has each write once; `journal_deliveries` a row for each driver that still has to
get it, deleted when it has; `journal_tombstones` what was deleted, which outlives the delete's own
entry; `journal_targets` a row for each driver that was ever held, locked by whoever delivers to it.
"""

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
    select,
)

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
    Index("journal_tombstones_of_record", "wrapper", "record_id"),
    Index("journal_tombstones_of_user", "wrapper", "user_id"),
)

targets = Table(
    "journal_targets",
    metadata,
    Column("wrapper", Text, primary_key=True),
    Column("target", Text, primary_key=True),
)


def create(connection: Connection) -> None:
    """Make the tables and indexes that are missing; raises where a table lacks a column."""
    metadata.create_all(connection)
    for table in metadata.tables.values():
        for index in table.indexes:
            index.create(connection, checkfirst=True)
        connection.execute(select(table).limit(0))
