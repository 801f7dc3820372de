"""What requests look like; the fields have the contract's names."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.api.filters import (
    FilterText,
    KnowledgeFilter,
    KnowledgeFilterText,
    MemoryFilter,
    filter_in,
)
from app.api.idempotency import NO_KEY, IdempotencyKey
from app.api.limits import (
    Batch,
    Category,
    Content,
    ConversationId,
    DocId,
    HalfLife,
    Metadata,
    Moment,
    PieceChars,
    Query,
    RecencyWeight,
    RecordId,
    Tags,
    Title,
    TopK,
    Ttl,
    UserId,
    refusal,
)
from app.core.memory import records
from app.core.memory.cutting import PIECE_CHARS
from app.core.memory.documents import NewPiece
from app.core.memory.requests import Recency

_MEMORY: JsonDict = {
    "user_id": "ada",
    "content": "Ada's kettle is made of copper.",
    "conversation_id": "kitchen",
    "tags": ["home"],
    "metadata": {"speaker": "Ada"},
}
_KNOWLEDGE: JsonDict = {
    "content": "Descale a copper kettle with lemon juice, never with steel wool.",
    "category": "kitchen",
    "title": "Kettle care",
}

_DOCUMENT: JsonDict = {
    "category": "kitchen",
    "title": "Kettle care",
    "text": "Descale a copper kettle with lemon juice.\n\nNever use steel wool.",
}


class _Known(BaseModel):
    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, value: Any) -> Any:
        """Tell the first unknown field only: a million of them can be in one body."""
        if isinstance(value, dict):
            for name in value:
                if name not in cls.model_fields:
                    known = ", ".join(cls.model_fields)
                    raise refusal("extra_forbidden", f"unknown; there are {known}", (name,))
        return value


class _Request(_Known):
    model_config = ConfigDict(strict=True)

    many: ClassVar[bool] = False
    """Whether it is about many records, and so may be as large as a body may be."""
    batch: ClassVar[str | None] = None
    """The field with the entries of a batch, where there is one; each entry has `new`."""


class StoreRequest(_Request):
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


class StoreManyRequest(_Request):
    """Memories to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"memories": [_MEMORY]}]})

    many = True
    batch = "memories"

    memories: Batch[StoreRequest]


class _Changes(_Request):
    def patch(self) -> dict[str, Any]:
        """The fields that were sent: null takes away, and what is absent stays."""
        return self.model_dump(exclude_unset=True)


class UpdateRequest(_Changes):
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


class RecencyRequest(_Request):
    """How much it counts that a memory is new, beside the other evidence."""

    half_life_days: HalfLife = Field(description="At this age a memory gets half of the points.")
    weight: RecencyWeight = Field(description="The points of a memory of this moment.")

    def weighed(self) -> Recency:
        """What the driver is asked to weigh."""
        return Recency(self.half_life_days, self.weight)


class RecallRequest(_Request):
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


class StoreKnowledgeRequest(_Request):
    """Knowledge to keep for everyone."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KNOWLEDGE]})

    content: Content
    category: Category
    title: Title | None = None
    doc_id: DocId | None = Field(
        None, description="Your own id for the source; several records may share one."
    )
    metadata: Metadata | None = None
    expires_at: Moment | None = Field(None, description="From this moment on nobody finds it.")
    ttl: Ttl | None = Field(
        None, description="Seconds until it expires, in the place of `expires_at`."
    )
    knowledge_id: RecordId | None = Field(
        None, description="Your own id for it, as the `memory_id` of a memory."
    )

    def new(self, key: IdempotencyKey = NO_KEY, place: int | None = None) -> records.NewKnowledge:
        """What the driver is asked to keep; in a batch as the entry of that place."""
        return records.NewKnowledge(
            content=self.content,
            category=self.category,
            title=self.title,
            doc_id=self.doc_id,
            metadata=self.metadata,
            expires_at=self.expires_at,
            ttl=self.ttl,
            knowledge_id=key.knowledge_id(self.knowledge_id, place),
        )


class UpdateKnowledgeRequest(_Changes):
    """Changes of knowledge, a JSON merge patch: what is absent stays, and null takes away."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"title": "Care of copper", "doc_id": None}]}
    )

    content: Content = Field(default_factory=str, description="Can't be null.")
    category: Category = Field(default_factory=str, description="Can't be null.")
    title: Title | None = None
    doc_id: DocId | None = None
    metadata: Metadata | None = Field(
        None, description="Merged into what is there: a member that is null is taken away."
    )
    expires_at: Moment | None = Field(None, description="null: never.")
    ttl: Ttl | None = Field(
        None, description="Seconds until it expires, in the place of `expires_at`; null: never."
    )


class StoreKnowledgeManyRequest(_Request):
    """Knowledge to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"knowledge": [_KNOWLEDGE]}]})

    many = True
    batch = "knowledge"

    knowledge: Batch[StoreKnowledgeRequest]


class RecallKnowledgeRequest(_Request):
    """Which knowledge to find."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "How do I clean a kettle?", "top_k": 3}]}
    )

    query: Query
    top_k: TopK = 5
    category: Category | None = Field(None, description="Only knowledge of this category.")
    doc_id: DocId | None = Field(None, description="Only knowledge of this document.")
    filter: KnowledgeFilter | None = Field(
        None, description="Only knowledge that all of it holds for takes part."
    )


class DeleteManyRequest(_Request):
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


class PieceRequest(_Request):
    """A piece of a document."""

    content: Content
    title: Title | None = Field(None, description="In the place of the document's.")
    metadata: Metadata | None = Field(None, description="In the place of the document's.")

    def new(self) -> NewPiece:
        """What the driver is asked to keep."""
        return NewPiece(content=self.content, title=self.title, metadata=self.metadata)


class PutDocumentRequest(_Request):
    """A document: its pieces, or one long text that the service cuts into them."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DOCUMENT]})

    many = True

    category: Category
    pieces: Batch[PieceRequest] | None = Field(
        None, description="In their order. Give either `pieces` or `text`."
    )
    text: str | None = Field(
        None,
        description="Cut at paragraphs, else at sentences, words or characters, into as many "
        "pieces as a batch may have at most.",
    )
    title: Title | None = None
    metadata: Metadata | None = None
    expires_at: Moment | None = Field(None, description="From this moment on nobody finds it.")
    ttl: Ttl | None = Field(
        None, description="Seconds until it expires, in the place of `expires_at`."
    )
    piece_chars: PieceChars = Field(
        PIECE_CHARS, description="The most characters of a piece that the service cuts."
    )
    overlap: int | None = Field(
        None,
        description="The most characters that a piece repeats of the one before: up to half of "
        "`piece_chars`, by default a tenth.",
        ge=0,
    )

    def arguments(self) -> dict[str, Any]:
        """What the driver is asked to put."""
        given = {name: getattr(self, name) for name in PutDocumentRequest.model_fields}
        pieces = None if self.pieces is None else [piece.new() for piece in self.pieces]
        return {**given, "pieces": pieces}


class PutAnyDocumentRequest(PutDocumentRequest):
    """A document and its id, which may be any text."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"doc_id": "manuals/kettle.md", **_DOCUMENT}]}
    )

    doc_id: DocId


class DeleteDocumentRequest(_Request):
    """Which document to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"doc_id": "manuals/kettle.md"}]})

    doc_id: DocId


class ForgetRequest(_Request):
    """Whose memories to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"user_id": "ada"}]})

    user_id: UserId


class OwnerParameters(_Known):
    """Whose memory is meant."""

    user_id: UserId


class ListParameters(_Known):
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


class ListKnowledgeParameters(_Known):
    """Which page of the knowledge."""

    category: Category | None = Field(None, description="Only knowledge of this category.")
    doc_id: DocId | None = Field(
        None, description="Only knowledge of this document, in its order; else the newest first."
    )
    filter: KnowledgeFilterText | None = Field(
        None, description="A filter as in a recall, as JSON: only such knowledge is listed."
    )
    cursor: str | None = Field(None, description="The previous page's next_cursor.")
    limit: TopK = 50

    def wanted(self) -> dict[str, Any] | None:
        """The filter."""
        return None if self.filter is None else filter_in(self.filter)


class UsersParameters(_Known):
    """Which page of the users."""

    cursor: str | None = Field(None, description="The previous page's next_cursor.")
    limit: TopK = 50


class RepairRequest(_Request):
    """Which driver to mend after which."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"source": "first", "target": "second", "dry_run": True}]}
    )

    source: str = Field(description="The driver that is right, by its name on /health.")
    target: str = Field(description="The driver to be mended.")
    dry_run: bool = Field(False, description="Compare only.")
