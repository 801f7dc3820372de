"""When a memory happened, until when a record is kept, and what was asked under a caller's id.

- `occurred_at` is null where a memory happened when it was created; `occurred_offset` is the given
  offset from UTC in minutes. What is newest goes by it, and so do the indexes of lists.
- From `expires_at` on nobody finds a record; the service deletes it a little later.
- `request` tells apart what was asked to be stored under an id that the caller gave.
- `position` is the place of knowledge in its document. A tenant's knowledge is memories of a user,
  U+001F and the tenant, that have both in their metadata.
"""

from alembic import op

revision = "0006"
down_revision = "0005"

LAST = 2**31 - 1
"""Where in its document a record stands that has no position."""

NEWEST = {
    True: "(user_id, (coalesce(occurred_at, created_at)), memory_id)",
    False: "(user_id, created_at, memory_id)",
}
OF_CONVERSATION = {
    True: "(user_id, conversation_id, (coalesce(occurred_at, created_at)), memory_id)",
    False: "(user_id, conversation_id, created_at, memory_id)",
}


def _index_memories(*, by_occurrence: bool) -> None:
    op.execute("drop index memories_newest")
    op.execute("drop index memories_conversation")
    op.execute(f"create index memories_newest on memories {NEWEST[by_occurrence]}")
    op.execute(f"create index memories_conversation on memories {OF_CONVERSATION[by_occurrence]}")


def upgrade() -> None:
    op.execute(
        """
        alter table memories
            add column occurred_at timestamptz,
            add column occurred_offset smallint not null default 0,
            add column expires_at timestamptz,
            add column request uuid
        """
    )
    _index_memories(by_occurrence=True)
    op.execute(
        """
        alter table global_knowledge
            add column expires_at timestamptz,
            add column position integer,
            add column request uuid
        """
    )
    for table in ("memories", "global_knowledge"):
        op.execute(
            f"create index {table}_expiring on {table} (expires_at) where expires_at is not null"
        )
    op.execute(
        "create index global_knowledge_newest on global_knowledge (created_at, knowledge_id)"
    )
    op.execute(
        "create index global_knowledge_newest_of_category"
        " on global_knowledge (category, created_at, knowledge_id)"
    )
    op.execute(
        f"""
        create index global_knowledge_document on global_knowledge
            (doc_id, (coalesce(position, {LAST})), created_at, knowledge_id)
            where doc_id is not null
        """
    )
    op.execute(
        f"""
        create index memories_document on memories
            (user_id, (metadata ->> 'doc_id'), (
                case when json_typeof(metadata -> 'position') = 'number'
                then (metadata ->> 'position')::numeric else {LAST} end
            ), created_at, memory_id)
            where left(user_id, 1) = E'\\x1f' and strpos(substr(user_id, 2), E'\\x1f') = 0
                and metadata ->> 'doc_id' is not null
        """
    )


def downgrade() -> None:
    """What has an end is deleted where it has expired; all others are kept for ever."""
    op.execute("delete from memories where expires_at <= now()")
    op.execute("delete from global_knowledge where expires_at <= now()")
    op.execute("drop index memories_document")
    op.execute("drop index global_knowledge_document")
    op.execute("drop index global_knowledge_newest_of_category")
    op.execute("drop index global_knowledge_newest")
    op.execute("drop index global_knowledge_expiring")
    op.execute("drop index memories_expiring")
    _index_memories(by_occurrence=False)
    op.execute(
        """
        alter table global_knowledge
            drop column expires_at, drop column position, drop column request
        """
    )
    op.execute(
        """
        alter table memories
            drop column occurred_at, drop column occurred_offset, drop column expires_at,
            drop column request
        """
    )
