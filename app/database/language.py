"""The language by which the stored memories are split into words, and changing it."""

from uuid import UUID

import asyncpg

from app.errors import ConfigurationError

_PAGE = 1_000
_KNOWN = (
    "select exists (select from pg_ts_config where cfgname = $1 and pg_ts_config_is_visible(oid))"
)
_SPLIT = """
    with page as (
        select user_id, memory_id from memories where (user_id, memory_id) > ($2, $3)
        order by user_id, memory_id limit $4
    ), split as (
        update memories set words = to_tsvector($1::text::regconfig, content)
        from page where memories.user_id = page.user_id and memories.memory_id = page.memory_id
    )
    select user_id, memory_id from page order by user_id, memory_id
"""
_LOCK = "lock table memories in share row exclusive mode"
_SET = "update embedding_model set language = $1"


async def change(connection: "asyncpg.Connection[asyncpg.Record]", language: str) -> int:
    """Split every memory's content anew; how many there were.

    All or nothing; stores wait meanwhile, recalls do not. Raises `ConfigurationError` for a
    language that PostgreSQL does not know here.
    """
    if not await connection.fetchval(_KNOWN, language):
        raise ConfigurationError(
            f"this PostgreSQL has no text search configuration {language!r}: see \\dF in psql"
        )
    count, last = 0, ("", UUID(int=0))
    async with connection.transaction():
        await connection.execute(_LOCK)
        while rows := await connection.fetch(_SPLIT, language, *last, _PAGE):
            count += len(rows)
            last = (rows[-1]["user_id"], rows[-1]["memory_id"])
        await connection.execute(_SET, language)
    return count
