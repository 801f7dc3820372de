"""What recall ranks by: bits of the vectors, words in any language, speakers and dates.

The vectors' signs, one bit a dimension, are in the primary key's index, so that the candidates of a
user with many memories are found without reading a row. docs/decisions/0010 and 0011 tell why.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alembic import op
from app.ranking.form import asks
from app.ranking.speakers import speaker_of

revision = "0002"
down_revision = "0001"

EMBEDDING = """
    select typname, atttypmod from pg_attribute join pg_type on pg_type.oid = atttypid
    where attrelid = 'memories'::regclass and attname = 'embedding'
"""
# Two vectors must fit a page beside the rest, where they are not to be stored elsewhere.
LARGEST_PLAIN_PAIR = 512
HAS_BTREE_GIN = "select exists (select from pg_available_extensions where name = 'btree_gin')"


PAGE = 1_000
ROWS = """
    select user_id, memory_id, content, metadata::text as metadata, created_at from memories
    where (user_id, memory_id) > (:user_id, :memory_id) order by user_id, memory_id limit :page
"""
FILL = """
    update memories set speaker = :speaker, occurred_at = :occurred_at, asks = :asks,
        words = to_tsvector('english', :parsable)
    where user_id = :user_id and memory_id = :memory_id
"""


# Text as PostgreSQL's parser of words can take it, as this revision gave it to that parser.
MARKS = 16
AT_SIGNS = 1
PUNCTUATION = re.compile(r"[!-/:-@\[-`{-~]")
RUN = re.compile(rf"\S{{{2 * (AT_SIGNS + 1)},}}")
COMMENT = "<!--"


def parsable(text: str) -> str:
    """`text`, with a space for each ASCII mark of a run of characters that has too many, and for
    those that begin a comment of HTML.

    After each mark the parser looks again how far an address, a path or a compound may reach: up to
    the next white space. In a run of n marks that is n times the run. Addresses that people write
    have up to 16 marks, and one @: they stay whole. At each start of a comment it looks for the end
    of one, up to the text's: n times the text.
    """
    return RUN.sub(apart, text.replace(COMMENT, " " * len(COMMENT)))


def apart(run: re.Match[str]) -> str:
    apart, marks = PUNCTUATION.subn(" ", run[0])
    return apart if marks > MARKS or run[0].count("@") > AT_SIGNS else run[0]


# When a memory happened, as this revision read it in the metadata: the service reads more by now.
MONTHS = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
NUMBERS = {
    spelling: n for n, name in enumerate(MONTHS, start=1) for spelling in (name, name[:3])
} | {"sept": 9}
NAME = "|".join(sorted(NUMBERS, key=len, reverse=True))
DAY = r"(?P<day>[0-3]?\d)(?:st|nd|rd|th)?"
YEAR = r"(?P<year>(?:19|20)\d\d)"
DAYS = (
    rf"\b{YEAR}-(?P<number>[01]?\d)-{DAY}(?!\d)",
    rf"\b{DAY}(?: of)? (?P<month>{NAME})\.?,?(?: of)? {YEAR}\b",
    rf"\b(?P<month>{NAME})\.? {DAY},? {YEAR}\b",
)
FIELDS = ("date", "datetime", "timestamp", "created_at", "time")
FIRST_SECOND = 1e8
MILLISECONDS = 1e11


def occurred_at(metadata: Mapping[str, Any], created_at: datetime) -> datetime:
    found = (_parsed(metadata.get(name)) for name in FIELDS)
    return next((moment for moment in found if moment is not None), created_at)


def _parsed(value: Any) -> datetime | None:
    try:
        if isinstance(value, (int, float)):
            if not value >= FIRST_SECOND:  # not a number neither
                return None
            return datetime.fromtimestamp(value / 1000 if value > MILLISECONDS else value, UTC)
        if not isinstance(value, str) or len(value) > 100:
            return None
        parsed = datetime.fromisoformat(value.strip())
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return _day(value.casefold()) if isinstance(value, str) else None


def _day(text: str) -> datetime | None:
    for match in filter(None, (re.search(pattern, text) for pattern in DAYS)):
        parts = match.groupdict()
        name = parts.get("month")
        try:
            month = int(parts["number"]) if name is None else NUMBERS[name]
            day = date(int(match["year"]), month, int(match["day"]))
        except ValueError:
            continue
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return None


def _fill(connection: Connection) -> None:
    """Give the stored memories what new ones get when they are stored."""
    last: dict[str, Any] = {"user_id": "", "memory_id": UUID(int=0), "page": PAGE}
    while rows := connection.execute(text(ROWS), last).all():
        filled = []
        for row in rows:
            metadata = json.loads(row.metadata)
            filled.append(
                {
                    "user_id": row.user_id,
                    "memory_id": row.memory_id,
                    "speaker": speaker_of(row.content, metadata),
                    "occurred_at": occurred_at(metadata, row.created_at),
                    "asks": asks(row.content),
                    "parsable": parsable(row.content),
                }
            )
        connection.execute(text(FILL), filled)
        last |= {"user_id": rows[-1].user_id, "memory_id": rows[-1].memory_id}


def upgrade() -> None:
    connection = op.get_bind()
    kind, dimension = connection.execute(text(EMBEDDING)).one()
    # A vector alone makes a row so large that PostgreSQL would compress the words beside it, and
    # every look at them would unpack them.
    target = min(8160, 4 * dimension + 2048)
    op.execute(f"alter table memories set (toast_tuple_target = {target})")
    op.execute("alter table embedding_model add column language text not null default 'english'")
    # The words' language is a setting from now on, so the service makes them, not the table.
    op.execute("alter table memories alter column words drop expression")
    # A recall is always one user's, which this index can't serve: it only made writing slower.
    op.execute("drop index memories_embedding")
    op.execute(
        f"""
        alter table memories
            add column bits bit({dimension}) not null
                generated always as (binary_quantize(embedding)::bit({dimension})) stored,
            add column context {kind}({dimension}),
            add column speaker text,
            add column occurred_at timestamptz,
            add column asks boolean
        """
    )
    if dimension <= LARGEST_PLAIN_PAIR:
        op.execute("alter table memories alter column context set storage plain")
    _fill(connection)
    op.execute("alter table memories alter column occurred_at set not null")
    op.execute("alter table memories alter column asks set not null")
    op.execute(
        """
        alter table memories
            drop constraint memories_pkey,
            add primary key (user_id, memory_id) include (conversation_id, bits)
        """
    )
    if connection.execute(text(HAS_BTREE_GIN)).scalar_one():
        op.execute("create extension if not exists btree_gin")
        op.execute("create index memories_words on memories using gin (user_id, words)")
    else:
        op.execute("create index memories_words on memories using gin (words)")
    # An index alone answers only for pages that were vacuumed since they were written.
    op.execute(
        """
        alter table memories set (
            autovacuum_vacuum_insert_scale_factor = 0.02,
            autovacuum_vacuum_insert_threshold = 2000,
            autovacuum_analyze_scale_factor = 0.05
        )
        """
    )


def downgrade() -> None:
    kind, _ = op.get_bind().execute(text(EMBEDDING)).one()
    op.execute("drop index memories_words")
    op.execute(
        """
        alter table memories
            drop constraint memories_pkey,
            drop column bits, drop column context, drop column speaker, drop column occurred_at,
            drop column asks,
            drop column words,
            add column words tsvector not null
                generated always as (to_tsvector('english', content)) stored,
            add primary key (user_id, memory_id)
        """
    )
    op.execute(
        "create index memories_embedding on memories"
        f" using ivfflat (embedding {kind}_cosine_ops) with (lists = 1)"
    )
    op.execute(
        """
        alter table memories reset (
            toast_tuple_target,
            autovacuum_vacuum_insert_scale_factor,
            autovacuum_vacuum_insert_threshold,
            autovacuum_analyze_scale_factor
        )
        """
    )
    op.execute("alter table embedding_model drop column language")
