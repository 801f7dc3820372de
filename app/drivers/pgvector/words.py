"""Which words the stored memories have: of which language, and by which version of `words`."""

from uuid import UUID

import asyncpg

from app.core.memory.querying import check_language
from app.drivers.pgvector.sql import memories as sql
from app.ranking.outlines import with_other_words
from app.ranking.words import VERSION

_PAGE = 1_000
LARGEST_TUPLE = 2_600
"""Bytes of an outline and its owner that a B-tree's tuple has room for, of its 2,704."""

_CONTENTS = """
    select user_id, memory_id, content, coalesce(outline, long_outline) as outline from memories
    where (user_id, memory_id) > ($1, $2) order by user_id, memory_id limit $3
"""
_KEEP = """
    update memories set outline = page.outline, long_outline = page.long_outline
    from unnest($1::text[], $2::uuid[], $3::bytea[], $4::bytea[])
        as page (owner, id, outline, long_outline)
    where user_id = owner and memory_id = id
"""
_LOCK = "lock table memories in share row exclusive mode"


def by_size(outline: bytes, user_id: str) -> tuple[bytes | None, bytes | None]:
    """The outline as the columns `outline`, which the primary key has, and `long_outline`."""
    fits = len(outline) + len(user_id.encode()) <= LARGEST_TUPLE
    return (outline, None) if fits else (None, outline)


async def rebuild(connection: "asyncpg.Connection[asyncpg.Record]", language: str) -> int:
    """Split every memory's content into words anew; how many memories there were.

    All or nothing; stores wait meanwhile, recalls do not. Raises `ConfigurationError` for a
    language that there are no words of.
    """
    check_language(language)
    count, last = 0, ("", UUID(int=0))
    async with connection.transaction():
        await connection.execute(_LOCK)
        while rows := await connection.fetch(_CONTENTS, *last, _PAGE):
            changed = [
                (
                    row["user_id"],
                    row["memory_id"],
                    *by_size(
                        with_other_words(row["outline"], row["content"], language), row["user_id"]
                    ),
                )
                for row in rows
            ]
            await connection.execute(_KEEP, *zip(*changed, strict=True))
            count += len(rows)
            last = (rows[-1]["user_id"], rows[-1]["memory_id"])
        await connection.execute(sql.SET_WORDS, language, VERSION)
    return count
