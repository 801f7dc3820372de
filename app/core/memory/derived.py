"""What a driver makes of a record, and keeps beside it: it travels to where the same is made."""

from dataclasses import dataclass

from app.core.memory.records import Memory
from app.embedding import Model, Vector
from app.ranking.outlines import packed


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """The vectors of a record's text, shape (windows, dimension), and of a memory its outline.

    The words of the outline are those of `language`, by the `words.VERSION` of this process: a
    driver whose words are of another version does not open. There may be no outline. `model` made
    the vectors; None: that of the driver that made them, or gets them.
    """

    vectors: Vector
    outline: bytes | None = None
    language: str | None = None
    model: Model | None = None

    def is_by(self, model: Model) -> bool:
        """Whether that model made the vectors, as far as anybody says."""
        return self.model is None or self.model is model or self.model.is_same(model)

    def outline_in(self, language: str) -> bytes | None:
        """The outline, where its words are of that language."""
        return self.outline if self.language == language else None


def outline_of(memory: Memory, signs: bytes, language: str) -> bytes:
    """The outline of a memory whose vectors have these `signs`, as of `outlines.signs_of`."""
    return packed(
        memory.content,
        memory.metadata,
        memory.conversation_id,
        memory.created_at,
        signs,
        language,
        occurred_at=memory.occurred_at,
        expires_at=memory.expires_at,
    )
