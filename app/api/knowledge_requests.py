"""What requests about knowledge and documents look like."""

from typing import Any

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from app.api.fields import Changes, Fields, Known
from app.api.filters import (
    KnowledgeFilter,
    KnowledgeFilterText,
    filter_in,
)
from app.api.idempotency import NO_KEY, IdempotencyKey
from app.api.limits import (
    Batch,
    Category,
    Content,
    DocId,
    Metadata,
    Moment,
    PieceChars,
    Query,
    RecordId,
    Title,
    TopK,
    Ttl,
)
from app.core.memory import records
from app.core.memory.cutting import PIECE_CHARS
from app.core.memory.documents import NewPiece

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


class StoreKnowledgeRequest(Fields):
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


class UpdateKnowledgeRequest(Changes):
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


class StoreKnowledgeManyRequest(Fields):
    """Knowledge to keep, all or none."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"knowledge": [_KNOWLEDGE]}]})

    many = True
    batch = "knowledge"

    knowledge: Batch[StoreKnowledgeRequest]


class RecallKnowledgeRequest(Fields):
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


class PieceRequest(Fields):
    """A piece of a document."""

    content: Content
    title: Title | None = Field(None, description="In the place of the document's.")
    metadata: Metadata | None = Field(None, description="In the place of the document's.")

    def new(self) -> NewPiece:
        """What the driver is asked to keep."""
        return NewPiece(content=self.content, title=self.title, metadata=self.metadata)


class PutDocumentRequest(Fields):
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


class DeleteDocumentRequest(Fields):
    """Which document to delete."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"doc_id": "manuals/kettle.md"}]})

    doc_id: DocId


class ListKnowledgeParameters(Known):
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
