"""Rows of PostgreSQL as records."""

from datetime import timedelta, timezone

import asyncpg
from pydantic_core import from_json

from app.core.memory.records import Knowledge, Memory
from app.ranking.ranked import Found


def memory_of(row: asyncpg.Record, found: Found | None = None) -> Memory:
    """The memory of a row, with what ranking has found of it.

    As of a `Memory` that is made, `updated_at` is `created_at` itself until the first update.
    """
    created_at, updated_at = row["created_at"], row["updated_at"]
    occurred_at, offset = row["occurred_at"] or created_at, row["occurred_offset"]
    if offset:
        occurred_at = occurred_at.astimezone(timezone(timedelta(minutes=offset)))
    return Memory(
        memory_id=str(row["memory_id"]),
        user_id=row["user_id"],
        content=row["content"],
        conversation_id=row["conversation_id"],
        tags=row["tags"],
        metadata=from_json(row["metadata"]),
        created_at=created_at,
        updated_at=created_at if updated_at == created_at else updated_at,
        occurred_at=occurred_at,
        expires_at=row["expires_at"],
        request=row["request"],
        score=None if found is None else found.score,
        explanation=None if found is None else found.explanation,
    )


def knowledge_of(row: asyncpg.Record) -> Knowledge:
    """The knowledge of a row, with its `score`."""
    return Knowledge(
        knowledge_id=str(row["knowledge_id"]),
        content=row["content"],
        category=row["category"],
        title=row["title"],
        doc_id=row["doc_id"],
        metadata=from_json(row["metadata"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        expires_at=row["expires_at"],
        position=row["position"],
        request=row["request"],
        score=row["score"],
    )
