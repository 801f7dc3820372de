"""The statements that delete what has expired. Alembic owns the tables and the indexes."""

AT_ONCE = 1_000
"""Records that one statement deletes at most."""


def _delete(table: str, key: str) -> str:
    """Delete the first records to have expired, but for those that another transaction changes."""
    same = " and ".join(f"{table}.{column} = due.{column}" for column in key.split(", "))
    return f"""
    with due as materialized (
        select {key} from {table}
        where expires_at <= $1 and (updated_at = created_at or expires_at <= $2)
        order by expires_at limit {AT_ONCE} for update skip locked
    )
    delete from {table} using due where {same}
    """


# $1 when what was never updated has expired, $2 when the others have
DELETE = (_delete("memories", "user_id, memory_id"), _delete("global_knowledge", "knowledge_id"))
"""Of memories and of knowledge. Triggers and a foreign key delete the windows, too."""
