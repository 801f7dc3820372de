"""Memories, global knowledge, and the model that they were embedded with."""

from alembic.util import CommandError

from alembic import context, op

revision = "0001"
down_revision = None

# A row must fit a page when its vector is stored plain, 4 bytes a dimension, beside the rest.
LARGEST_PLAIN_DIMENSION = 1_024
# pgvector indexes vectors of at most 2,000 dimensions, and half-precision ones of at most 4,000.
LARGEST_VECTOR_DIMENSION = 2_000
LARGEST_HALFVEC_DIMENSION = 4_000


def upgrade() -> None:
    dimension = int(context.config.attributes["dimension"]())
    if dimension > LARGEST_HALFVEC_DIMENSION:
        raise CommandError(
            f"pgvector indexes at most 4,000 dimensions, and the model has {dimension}"
        )
    kind = "vector" if dimension <= LARGEST_VECTOR_DIMENSION else "halfvec"
    op.execute("create extension if not exists vector")
    op.execute(
        """
        create table embedding_model (
            only_row boolean primary key default true check (only_row),
            name text not null,
            dimension integer not null,
            sample vector not null
        )
        """
    )
    op.execute(
        f"""
        create table memories (
            user_id text collate "C" not null,
            memory_id uuid not null,
            conversation_id text collate "C",
            content text not null,
            tags text[] not null,
            metadata json not null,
            created_at timestamptz not null,
            embedding {kind}({dimension}) not null,
            words tsvector not null generated always as (to_tsvector('english', content)) stored,
            primary key (user_id, memory_id)
        )
        """
    )
    op.execute("create index memories_id on memories (memory_id)")
    op.execute("create index memories_newest on memories (user_id, created_at, memory_id)")
    op.execute(
        "create index memories_conversation"
        " on memories (user_id, conversation_id, created_at, memory_id)"
    )
    op.execute(
        f"""
        create table global_knowledge (
            knowledge_id uuid primary key,
            category text collate "C" not null,
            content text not null,
            title text,
            doc_id text,
            metadata json not null,
            created_at timestamptz not null,
            embedding {kind}({dimension}) not null
        )
        """
    )
    op.execute("create index global_knowledge_category on global_knowledge (category)")
    for table in ("memories", "global_knowledge"):
        if dimension <= LARGEST_PLAIN_DIMENSION:
            op.execute(f"alter table {table} alter column embedding set storage plain")
        # With one list a scan by this index is exact, whenever the planner takes it.
        # docs/decisions/0003 tells why, and when there should be more.
        op.execute(
            f"create index {table}_embedding on {table}"
            f" using ivfflat (embedding {kind}_cosine_ops) with (lists = 1)"
        )


def downgrade() -> None:
    op.execute("drop table global_knowledge")
    op.execute("drop table memories")
    op.execute("drop table embedding_model")
