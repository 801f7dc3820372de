"""What recall ranks by: bits of the vectors, words in any language, speakers and dates.

The vectors' signs, one bit a dimension, are in the primary key's index, so that the candidates of a
user with many memories are found without reading a row. docs/decisions/0010 and 0011 tell why.
"""

import json
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from alembic import op
from app.ranking.dates import occurred_at
from app.ranking.form import asks
from app.ranking.runs import parsable
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
