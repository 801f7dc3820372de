"""Records as JSON and back, unchanged: for code that keeps them outside a backend."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.core.memory.checks import dump_json
from app.core.memory.records import Knowledge, Memory, Record


def encode(records: Sequence[Record]) -> str:
    """A JSON array of objects, memories with a `memory_id` and knowledge with a `knowledge_id`.

    An `explanation` is left out.
    """
    return dump_json([_object(record) for record in records])


def decode(text: str | bytes) -> list[Record]:
    """The records that `encode` was given."""
    return [_record(fields) for fields in json.loads(text)]


def _object(record: Record) -> dict[str, Any]:
    # In the order of the constructor, without the deep copies of dataclasses.asdict.
    fields: dict[str, Any]
    if isinstance(record, Memory):
        fields = {
            "memory_id": record.memory_id,
            "user_id": record.user_id,
            "content": record.content,
            "conversation_id": record.conversation_id,
            "tags": record.tags,
        }
    else:
        fields = {
            "knowledge_id": record.knowledge_id,
            "content": record.content,
            "category": record.category,
            "title": record.title,
            "doc_id": record.doc_id,
        }
    return {
        **fields,
        "metadata": record.metadata,
        "created_at": record.created_at.isoformat(),
        "updated_at": record.updated_at.isoformat(),
        "score": record.score,
    }


def _record(fields: dict[str, Any]) -> Record:
    for name in ("created_at", "updated_at"):
        if name in fields:  # JSON from before updates has `created_at` alone
            fields[name] = datetime.fromisoformat(fields[name])
    return Memory(**fields) if "memory_id" in fields else Knowledge(**fields)
