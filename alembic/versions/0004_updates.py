"""The version of every record, `updated_at`; what was stored before has that of its creation."""

from alembic import context, op

revision = "0004"
down_revision = "0003"

TABLES = ("memories", "global_knowledge")


def upgrade() -> None:
    for table in TABLES:
        op.execute(f"alter table {table} add column updated_at timestamptz")
        # One pass that writes the table and its indexes anew. An update of all rows would take
        # twice as long, write twice as much, and leave the table twice as large.
        op.execute(
            f"""
            alter table {table}
                alter column updated_at type timestamptz using created_at,
                alter column updated_at set not null
            """
        )
        # Replicas of the version before go on beside an upgrade, and do not name the column.
        op.execute(f"alter table {table} alter column updated_at set default now()")
    context.config.attributes["rewritten"] = TABLES


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"alter table {table} drop column updated_at")
