"""The documented form of a retrieval set.

{
  "users": [
    {
      "user_id": "ada",
      "memories": [
        {
          "id": "1",                            any text, unique for the user
          "content": "Ada: I bought a kettle.",
          "conversation_id": "kitchen",         optional
          "tags": ["home"],                     optional
          "metadata": {"speaker": "Ada", "date": "2023-05-08T13:56:00Z"}   optional
        }
      ],
      "queries": [{"query": "What did Ada buy?", "gold": ["1"]}]
    }
  ]
}

Memories are stored in their order, which is that of their time. `gold` are the ids of the memories
that answer the query, one or more.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SetMemory(_Strict):
    """A memory to store."""

    id: str
    content: str
    conversation_id: str | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] = {}


class SetQuery(_Strict):
    """A query, and what answers it."""

    query: str
    gold: list[str] = Field(min_length=1)


class SetUser(_Strict):
    """A user's memories, and queries to them."""

    user_id: str
    memories: list[SetMemory]
    queries: list[SetQuery]

    @model_validator(mode="after")
    def _gold_is_there(self) -> "SetUser":
        ids = {memory.id for memory in self.memories}
        if len(ids) != len(self.memories):
            raise ValueError(f"an id of {self.user_id!r} is there twice")
        missing = {gold for query in self.queries for gold in query.gold} - ids
        if missing:
            raise ValueError(f"{self.user_id!r} has no memory {min(missing)!r}, which is gold")
        return self


class RetrievalSet(_Strict):
    """Users, each searched alone."""

    users: list[SetUser]


def load(path: Path) -> RetrievalSet:
    """Read a set; raises `ValueError` that says what is wrong."""
    return RetrievalSet.model_validate_json(path.read_bytes())
