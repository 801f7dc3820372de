"""Records as JSON and back, unchanged: for code that keeps them outside a backend."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.memory.checks import dump_json
from app.core.memory.records import Knowledge, Memory, Record


def encode(records: Sequence[Record]) -> str:
    """A JSON array of objects, memories with a `memory_id` and knowledge with a `knowledge_id`.

    An `explanation` is left out.
    """
    return dump_json([as_object(record) for record in records])


def decode(text: str | bytes) -> list[Record]:
    """The records that `encode` was given."""
    return [from_object(fields) for fields in json.loads(text)]


def as_object(record: Record) -> dict[str, Any]:
    """The record as values of JSON, without an `explanation`."""
    # In the order of the constructor, without the deep copies of dataclasses.asdict.
    fields: dict[str, Any]
    created_at = record.created_at.isoformat()

    def written(moment: datetime) -> str:  # mostly this one; an equal one may have another offset
        return created_at if moment is record.created_at else moment.isoformat()

    if isinstance(record, Memory):
        fields = {
            "memory_id": record.memory_id,
            "user_id": record.user_id,
            "content": record.content,
            "conversation_id": record.conversation_id,
            "tags": record.tags,
            "occurred_at": written(record.occurred_at),
        }
    else:
        fields = {
            "knowledge_id": record.knowledge_id,
            "content": record.content,
            "category": record.category,
            "title": record.title,
            "doc_id": record.doc_id,
            "position": record.position,
        }
    return {
        **fields,
        "metadata": record.metadata,
        "created_at": created_at,
        "updated_at": written(record.updated_at),
        "expires_at": None if record.expires_at is None else record.expires_at.isoformat(),
        "request": None if record.request is None else record.request.hex,
        "score": record.score,
    }


def from_object(fields: dict[str, Any]) -> Record:
    """The record that `as_object` was given; the dictionary is changed."""
    moments: dict[str, datetime] = {}
    for name in ("created_at", "updated_at", "occurred_at", "expires_at"):
        text = fields.get(name)  # JSON of an earlier version has fewer of them
        if text is not None:
            if text not in moments:
                moments[text] = datetime.fromisoformat(text)
            fields[name] = moments[text]
    if fields.get("request") is not None:
        fields["request"] = UUID(fields["request"])
    return Memory(**fields) if "memory_id" in fields else Knowledge(**fields)
