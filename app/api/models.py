"""What requests and responses look like; the fields have the contract's names."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.config import JsonDict

from app.api.limits import (
    Batch,
    Category,
    Content,
    ConversationId,
    DocId,
    Metadata,
    Query,
    Tags,
    Title,
    TopK,
    UserId,
    refusal,
)
from app.core.memory import records
from app.core.memory.base import BaseMemoryDriver, DriverHealth, HealthStatus

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


class StoreRequest(_Request):
    """A memory to keep for a user."""

    model_config = ConfigDict(json_schema_extra={"examples": [_MEMORY]})

    user_id: UserId = Field(description="Whose memory it is: any text, compared exactly.")
    content: Content = Field(
        description="What to remember. All of it is kept and searched by words; the vector is made "
        "of as many tokens as the embedding model reads (see /health)."
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

    def new(self) -> records.NewMemory:
        """What the driver is asked to keep."""
        return records.NewMemory(
            user_id=self.user_id,
            content=self.content,
            conversation_id=self.conversation_id,
            tags=self.tags,
            metadata=self.metadata,
        )


class StoreManyRequest(_Request):
    """Memories to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"memories": [_MEMORY]}]})

    many = True

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
    explain: bool = Field(False, description="Tell of each memory why: the points of its evidence.")


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

    def new(self) -> records.NewKnowledge:
        """What the driver is asked to keep."""
        return records.NewKnowledge(
            content=self.content,
            category=self.category,
            title=self.title,
            doc_id=self.doc_id,
            metadata=self.metadata,
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


class StoreKnowledgeManyRequest(_Request):
    """Knowledge to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"knowledge": [_KNOWLEDGE]}]})

    many = True

    knowledge: Batch[StoreKnowledgeRequest]


class RecallKnowledgeRequest(_Request):
    """Which knowledge to find."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"query": "How do I clean a kettle?", "top_k": 3}]}
    )

    query: Query
    top_k: TopK = 5
    category: Category | None = Field(None, description="Only knowledge of this category.")


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
    cursor: str | None = Field(None, description="The previous page's next_cursor.")
    limit: TopK = 50


class _Response(BaseModel):
    # What a driver answers wrongly is told in the log without its values, which are users' content.
    model_config = ConfigDict(from_attributes=True, hide_input_in_errors=True)


class Memory(_Response):
    """A user's record."""

    memory_id: str = Field(json_schema_extra={"format": "uuid"})
    user_id: str
    conversation_id: str | None
    content: str
    tags: list[str]
    metadata: dict[str, Any]
    created_at: datetime = Field(description="UTC.")
    updated_at: datetime = Field(description="When it was last changed, else created: UTC.")


class Explanation(_Response):
    """The points of each piece of evidence; the order is that of their sum."""

    cosine: float = Field(description="Of the query's vector and the memory's: -1 to 1.")
    lexical: float = Field(description="For words of the query, here or in the turns around.")
    date: float = Field(description="For a date that the query names.")
    speaker: float = Field(description="For the one person whom the query names.")
    form: float = Field(description="For a statement, and for saying more.")


class RecalledMemory(Memory):
    """A memory and how well it answers the query."""

    score: float | None = Field(
        description="0 to 1, higher is better; null when there was no query.", ge=0, le=1
    )
    explanation: Explanation | None = Field(
        None,
        description="Only with `explain`, and where vectors took part.",
        exclude_if=lambda explanation: explanation is None,
    )


class Memories(_Response):
    """The stored memories, in the order of the request."""

    memories: list[Memory]


class MemoryPage(_Response):
    """Some of a user's memories, newest first."""

    memories: list[Memory]
    next_cursor: str | None = Field(description="Continues the list; null at its end.")


class Deleted(_Response):
    """How many records were deleted."""

    deleted: int


class Knowledge(_Response):
    """A record for everyone."""

    knowledge_id: str = Field(json_schema_extra={"format": "uuid"})
    category: str
    content: str
    title: str | None
    doc_id: str | None
    metadata: dict[str, Any]
    created_at: datetime = Field(description="UTC.")
    updated_at: datetime = Field(description="When it was last changed, else created: UTC.")


class RecalledKnowledge(Knowledge):
    """Knowledge and how well it answers the query."""

    score: float | None = Field(description="0 to 1, higher is better.", ge=0, le=1)


class KnowledgeList(_Response):
    """The stored knowledge, in the order of the request."""

    knowledge: list[Knowledge]


class _Answer(_Response):
    driver: str = Field(description="The driver that answered.")
    degraded: bool = Field(description="A fallback answered in the place of the first choice.")
    cached: bool = Field(description="The answer came from a cache.")

    @staticmethod
    def _how(found: Sequence[object], driver: BaseMemoryDriver) -> dict[str, Any]:
        if isinstance(found, records.Recalled):
            return {"driver": found.driver, "degraded": found.degraded, "cached": found.cached}
        return {"driver": driver.name, "degraded": False, "cached": False}


class RecallResponse(_Answer):
    """Recalled memories, best or newest first."""

    memories: list[RecalledMemory]

    @classmethod
    def of(cls, found: Sequence[records.Memory], driver: BaseMemoryDriver) -> Self:
        return cls.model_validate({"memories": found, **cls._how(found, driver)})


class RecallKnowledgeResponse(_Answer):
    """Recalled knowledge, best first."""

    knowledge: list[RecalledKnowledge]

    @classmethod
    def of(cls, found: Sequence[records.Knowledge], driver: BaseMemoryDriver) -> Self:
        return cls.model_validate({"knowledge": found, **cls._how(found, driver)})


class RepairRequest(_Request):
    """Which driver to mend after which."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"source": "first", "target": "second", "dry_run": True}]}
    )

    source: str = Field(description="The driver that is right, by its name on /health.")
    target: str = Field(description="The driver to be mended.")
    dry_run: bool = Field(False, description="Compare only.")


class Repaired(_Response):
    """How the target differed."""

    missing: int = Field(description="Records that it lacked.")
    different: int = Field(description="Records that it had otherwise.")
    extra: int = Field(description="Records that it had too many.")


class DriverState(_Response):
    """One driver's state, and those of the drivers it holds."""

    driver: str
    status: HealthStatus = Field(
        description="ok; degraded: it serves, but see detail; unavailable."
    )
    detail: str | None
    facts: dict[str, Any] = Field(
        description="Figures, such as how many records there are; empty for a caller who may not "
        "read every tenant's."
    )
    drivers: list["DriverState"]

    def without_figures(self) -> Self:
        """The same without any figure, also of the drivers it holds."""
        held = [driver.without_figures() for driver in self.drivers]
        return self.model_copy(update={"facts": {}, "drivers": held})


class Health(_Response):
    """The service's state."""

    status: HealthStatus
    version: str
    capabilities: list[str] = Field(description="What the driver can do beyond the six verbs.")
    driver: DriverState

    @classmethod
    def of(
        cls,
        health: DriverHealth,
        version: str,
        capabilities: frozenset[str],
        *,
        figures: bool,
    ) -> Self:
        driver = DriverState.model_validate(health)
        return cls(
            status=health.status,
            version=version,
            capabilities=sorted(capabilities),
            driver=driver if figures else driver.without_figures(),
        )


class Live(_Response):
    """The process answers."""

    status: Literal["ok"] = "ok"
