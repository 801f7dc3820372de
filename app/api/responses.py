"""What responses look like; the fields have the contract's names."""

from collections.abc import Container, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field

from app.core.memory import records
from app.core.memory.base import BaseMemoryDriver, DriverHealth, HealthStatus
from app.core.memory.embedded import text_of


def _is_none(value: object) -> bool:
    return value is None


_Truncated = Annotated[
    bool,
    Field(
        description="Only in the answer to a store or an update whose text has more windows than "
        "are kept: parts of it are found by their words alone.",
        exclude_if=lambda truncated: not truncated,
    ),
]


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
    occurred_at: datetime = Field(
        description="When it happened, with the offset that was given; by default when created."
    )
    expires_at: datetime | None = Field(description="From then on nobody finds it: UTC.")
    truncated: _Truncated = False

    @classmethod
    def of(cls, stored: records.Memory, truncated: Container[str]) -> Self:
        """What was stored or changed, where these texts were truncated."""
        answer = cls.model_validate(stored)
        answer.truncated = text_of(stored) in truncated
        return answer


class Explanation(_Response):
    """The points of each piece of evidence; the order is that of their sum, or of `rerank`."""

    cosine: float = Field(description="Of the query's vector and the memory's: -1 to 1.")
    lexical: float = Field(description="For words of the query, here or in the turns around.")
    date: float = Field(description="For a date that the query names.")
    speaker: float = Field(description="For the one person whom the query names.")
    form: float = Field(description="For a statement, and for saying more.")
    recency: float | None = Field(
        None, description="For being new; only with `recency`.", exclude_if=_is_none
    )
    rerank: float | None = Field(
        None,
        description="The reranker's score, 0 to 1, which is no part of the sum; only where there "
        "is a reranker, and of the best 30.",
        exclude_if=_is_none,
    )


class RecalledMemory(Memory):
    """A memory and how well it answers the query."""

    score: float | None = Field(
        description="0 to 1, higher is better; null when there was no query.", ge=0, le=1
    )
    explanation: Explanation | None = Field(
        None,
        description="Only with `explain`, and where vectors took part.",
        exclude_if=_is_none,
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


class UserCount(_Response):
    """A user who has memories."""

    user_id: str
    memories: int = Field(description="How many that have not expired.", ge=1)


class UserPage(_Response):
    """Some of the users, by their ids in code-point order."""

    users: list[UserCount]
    next_cursor: str | None = Field(description="Continues the list; null at its end.")


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
    expires_at: datetime | None = Field(description="From then on nobody finds it: UTC.")
    position: int | None = Field(
        description="Its place in its document, from 0; null for what was stored by itself."
    )
    truncated: _Truncated = False

    @classmethod
    def of(cls, stored: records.Knowledge, truncated: Container[str]) -> Self:
        """What was stored or changed, where these texts were truncated."""
        answer = cls.model_validate(stored)
        answer.truncated = text_of(stored) in truncated
        return answer


class RecalledKnowledge(Knowledge):
    """Knowledge and how well it answers the query."""

    score: float | None = Field(description="0 to 1, higher is better.", ge=0, le=1)


class KnowledgeList(_Response):
    """The stored knowledge, in the order of the request."""

    knowledge: list[Knowledge]


class KnowledgePage(_Response):
    """Some of the knowledge, newest first; that of one document in its order."""

    knowledge: list[Knowledge]
    next_cursor: str | None = Field(description="Continues the list; null at its end.")


class _Answer(_Response):
    driver: str = Field(description="The driver that answered.")
    degraded: bool = Field(
        description="A fallback answered in the place of the first choice, or the answer lacks a "
        "reranking that is configured."
    )
    cached: bool = Field(description="The answer came from a cache.")

    @staticmethod
    def _how(found: Sequence[object], driver: BaseMemoryDriver) -> dict[str, Any]:
        if isinstance(found, records.Recalled):
            return {"driver": found.driver, "degraded": found.degraded, "cached": found.cached}
        return {"driver": driver.name, "degraded": False, "cached": False}

    def response(self) -> Response:
        """The answer as it is sent: FastAPI would make it a model and a dictionary once more."""
        return Response(self.model_dump_json(), media_type="application/json")


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


class Imported(_Response):
    """How many records of each kind the import had."""

    memories: int
    knowledge: int


class Repaired(_Response):
    """How the target differed."""

    missing: int = Field(description="Records that it lacked.")
    different: int = Field(description="Records that it had otherwise.")
    extra: int = Field(description="Records that it had too many.")


class Reembedding(_Response):
    """How far a re-embedding is that this service does."""

    step: str = Field(description="begin, fill, switch, end; or over.")
    records: int | None = Field(description="How many records there are, once they are counted.")
    done: int = Field(description="How many of them have vectors of the new model.")
    waiting: str | None = Field(description="What the switch waits for.")


class CalledOff(_Response):
    """Whether there was something to call off."""

    called_off: bool = Field(description="False: no re-embedding went on.")


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
