"""What requests look like; the fields have the contract's names."""

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from app.api.fields import Changes, Fields, Known
from app.api.filters import (
    FilterText,
    MemoryFilter,
    filter_in,
)
from app.api.idempotency import NO_KEY, IdempotencyKey
from app.api.limits import (
    Batch,
    Content,
    ConversationId,
    HalfLife,
    Metadata,
    Moment,
    Query,
    RecencyWeight,
    RecordId,
    Tags,
    TopK,
    Ttl,
    UserId,
)
from app.core.memory import records
from app.core.memory.requests import Recency

_MEMORY: JsonDict = {
    "user_id": "ada",
    "content": "Ada's kettle is made of copper.",
    "conversation_id": "kitchen",
    "tags": ["home"],
    "metadata": {"speaker": "Ada"},
}


class StoreRequest(Fields):
    """A memory to keep for a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MEMORY]})

    user_id: UserId = Field(description="Whose memory it is: any text, compared exactly.")
    content: Content = Field(
        description="What to remember. All of it is kept, and searched by words and by meaning."
    )
    conversation_id: ConversationId | None = Field(
        None, description="What was said with it, in order: neighbours help recall."
    )
    tags: Tags | None = None
    metadata: Metadata | None = Field(
        None,
        description="Any JSON object within the limits; it comes back as it was. `speaker`, a "
        "name, and `date`, when it happened, help recall.",
    )

    occurred_at: Moment | None = Field(
        None,
        description="When it happened, as RFC 3339 has it; the offset is kept, and without one it "
        "is UTC. By default it is now.",
    )
    expires_at: Moment | None = Field(None, description="From this moment on nobody finds it.")
    ttl: Ttl | None = Field(
        None, description="Seconds until it expires, in the place of `expires_at`."
    )
    memory_id: RecordId | None = Field(
        None,
        description="Your own id for it. The same request again under that id of the user answers "
        "with what is there, and another request with 409. By default it is one of ours.",
    )

    def new(self, key: IdempotencyKey = NO_KEY, place: int | None = None) -> records.NewMemory:
        """What the driver is asked to keep; in a batch as the entry of that place."""
        return records.NewMemory(
            user_id=self.user_id,
            content=self.content,
            conversation_id=self.conversation_id,
            tags=self.tags,
            metadata=self.metadata,
            occurred_at=self.occurred_at,
            expires_at=self.expires_at,
            ttl=self.ttl,
            memory_id=key.memory_id(self.memory_id, self.user_id, place),
        )


class StoreManyRequest(Fields):
    """Memories to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"memories": [_MEMORY]}]})

    many = True
    batch = "memories"

    memories: Batch[StoreRequest]


class UpdateRequest(Changes):
    """Changes of a memory, a JSON merge patch: what is absent stays, and null takes away."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"tags": ["home", "tea"], "metadata": {"speaker": None, "room": "kitchen"}}
            ]
        }
    )

    content: Content = Field(default_factory=str, description="Can't be null.")
    conversation_id: ConversationId | None = None
    tags: Tags | None = Field(None, description="In the place of all tags that are there.")
    metadata: Metadata | None = Field(
        None, description="Merged into what is there: a member that is null is taken away."
    )
    occurred_at: Moment | None = Field(None, description="null: when it was created.")
    expires_at: Moment | None = Field(None, description="null: never.")
    ttl: Ttl | None = Field(
        None, description="Seconds until it expires, in the place of `expires_at`; null: never."
    )


class RecencyRequest(Fields):
    """How much it counts that a memory is new, beside the other evidence."""

    half_life_days: HalfLife = Field(description="At this age a memory gets half of the points.")
    weight: RecencyWeight = Field(description="The points of a memory of this moment.")

    def weighed(self) -> Recency:
        """What the driver is asked to weigh."""
        return Recency(self.half_life_days, self.weight)


class RecallRequest(Fields):
    """Which of a user's memories to find."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"user_id": "ada", "query": "What is the kettle made of?", "top_k": 3}]
        }
    )

    user_id: UserId
    conversation_id: ConversationId | None = Field(
        None, description="Only memories of this conversation."
    )
    query: Query | None = Field(None, description="Without a query, the newest come first.")
    top_k: TopK = 10
    use_vector: bool = Field(
        True,
        description="false: by words alone, of a long query the longest 60; only memories that "
        "share one are found.",
    )
    exclude_tags: Tags | None = Field(
        None, description="Leave out memories that have any of these tags, compared exactly."
    )
    filter: MemoryFilter | None = Field(
        None, description="Only memories that all of it holds for take part."
    )
    explain: bool = Field(False, description="Tell of each memory why: the points of its evidence.")
    recency: RecencyRequest | None = Field(
        None,
        description="Prefer new memories, where there is a query and vectors take part. Without "
        "it, age does not count.",
    )
    as_of: Moment | None = Field(
        None,
        description="The moment that the query speaks from, as RFC 3339 has it; without an offset "
        "in UTC. *Yesterday* is the day before its day. By default it is now.",
    )


class DeleteManyRequest(Fields):
    """Which of a user's memories to delete: those that all of it holds for.

    At least one of `conversation_id`, `filter` and `before` must be given; `forget_user` deletes
    all that a user has.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "ada", "conversation_id": "kitchen", "dry_run": True},
                {"user_id": "ada", "filter": {"tags": {"any": ["home"]}}},
            ]
        }
    )

    user_id: UserId
    conversation_id: ConversationId | None = Field(
        None, description="Only memories of this conversation."
    )
    filter: MemoryFilter | None = Field(None, description="Only memories that all of it holds for.")
    before: Moment | None = Field(
        None,
        description="Only memories created before this moment, as RFC 3339 has it; without an "
        "offset in UTC.",
    )
    dry_run: bool = Field(False, description="Count only.")


class ForgetRequest(Fields):
    """Whose memories to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "ada"}]})

    user_id: UserId


class OwnerParameters(Known):
    """Whose memory is meant."""

    user_id: UserId


class ListParameters(Known):
    """Which page of a user's memories."""

    user_id: UserId
    conversation_id: ConversationId | None = None
    filter: FilterText | None = Field(
        None, description="A filter as in a recall, as JSON: only such memories are listed."
    )
    cursor: str | None = Field(None, description="The previous page's next_cursor.")
    limit: TopK = 50

    def wanted(self) -> dict[str, Any] | None:
        """The filter."""
        return None if self.filter is None else filter_in(self.filter)


class UsersParameters(Known):
    """Which page of the users."""

    cursor: str | None = Field(None, description="The previous page's next_cursor.")
    limit: TopK = 50


class ExportParameters(Known):
    """Which records to export."""

    user_id: UserId | None = Field(
        None, description="The memories of this user alone. By default all records."
    )
    since: Moment | None = Field(
        None, description="Only what was stored or changed at this moment or later, as RFC 3339."
    )
    vectors: bool = Field(
        False, description="With the vectors: an import by the same model need not make them."
    )


class ReembedRequest(Fields):
    """Which model the records of which driver get."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "/srv/models/all-mpnet-base-v2"}]}
    )

    model: str = Field(description="The model, as MEMORY_EMBEDDING_MODEL takes it.", min_length=1)
    driver: str | None = Field(
        None, description="The driver, by its name on /health; needed where there are several."
    )
    force: bool = Field(False, description="Switch, whatever service can't load the model.")


class CallOffParameters(Fields):
    """Whose re-embedding is called off."""

    driver: str | None = Field(
        None, description="The driver, by its name on /health; needed where there are several."
    )


class RepairRequest(Fields):
    """Which driver to mend after which."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"source": "first", "target": "second", "dry_run": True}]}
    )

    source: str = Field(description="The driver that is right, by its name on /health.")
    target: str = Field(description="The driver to be mended.")
    dry_run: bool = Field(False, description="Compare only.")
