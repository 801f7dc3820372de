"""The language by which the stored memories are split into words, and changing it."""

from uuid import UUID

import asyncpg

from app.errors import ConfigurationError
from app.ranking.runs import parsable

_PAGE = 1_000
_KNOWN = (
    "select exists (select from pg_ts_config where cfgname = $1 and pg_ts_config_is_visible(oid))"
)
_CONTENTS = """
    select user_id, memory_id, content from memories where (user_id, memory_id) > ($1, $2)
    order by user_id, memory_id limit $3
"""
_SPLIT = """
    update memories set words = to_tsvector($1::text::regconfig, parsable)
    from unnest($2::text[], $3::uuid[], $4::text[]) as page (owner, id, parsable)
    where user_id = owner and memory_id = id
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
        while rows := await connection.fetch(_CONTENTS, *last, _PAGE):
            owners, ids, contents = zip(*rows, strict=True)
            texts = [parsable(content) for content in contents]
            await connection.execute(_SPLIT, language, owners, ids, texts)
            count += len(rows)
            last = (owners[-1], ids[-1])
        await connection.execute(_SET, language)
    return count
