"""Knowledge is found by an ivfflat index in half precision, and in a category by its bits."""

from sqlalchemy import text

from alembic import op

revision = "0003"
down_revision = "0002"

LARGEST_PLAIN_DIMENSION = 1_024


def column() -> tuple[str, int]:
    """Type and dimension of the embeddings: vector, or halfvec above 2,000 dimensions."""
    found = op.get_bind().execute(
        text(
            "select typname, atttypmod from pg_attribute join pg_type on pg_type.oid = atttypid"
            " where attrelid = 'global_knowledge'::regclass and attname = 'embedding'"
        )
    )
    kind, dimension = found.one()
    return str(kind), int(dimension)


def upgrade() -> None:
    _, dimension = column()
    op.execute("drop index global_knowledge_embedding")
    op.execute("drop index global_knowledge_category")
    op.execute(
        f"""
        alter table global_knowledge add column bits bit({dimension}) not null
            generated always as (binary_quantize(embedding)::bit({dimension})) stored
        """
    )
    op.execute(
        "create index global_knowledge_category"
        " on global_knowledge (category, knowledge_id) include (bits)"
    )
    # One list, in which a scan finds everything: `memory-driver index rebuild` makes as many as the
    # rows want. docs/decisions/0008 tells why in half precision.
    op.execute(
        f"""
        create index global_knowledge_embedding on global_knowledge
            using ivfflat ((embedding::halfvec({dimension})) halfvec_cosine_ops) with (lists = 1)
        """
    )


def downgrade() -> None:
    kind, _ = column()
    op.execute("drop index global_knowledge_embedding")
    op.execute("drop index global_knowledge_category")
    op.execute("alter table global_knowledge drop column bits")
    op.execute("create index global_knowledge_category on global_knowledge (category)")
    op.execute(
        "create index global_knowledge_embedding on global_knowledge"
        f" using ivfflat (embedding {kind}_cosine_ops) with (lists = 1)"
    )
