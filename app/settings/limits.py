"""The limits of what callers may send."""

import re
from typing import Self

from pydantic import Field
from pydantic_settings import BaseSettings

from app.settings.group import group

TENANT_CHARS = 32
"""The most characters of a tenant."""
TENANT = re.compile(rf"[A-Za-z0-9_-]{{1,{TENANT_CHARS}}}")


class Limits(BaseSettings):
    """The largest values the service accepts; text is counted in Unicode code points."""

    model_config = group("MEMORY_MAX_")

    content_chars: int = Field(32_768, ge=1, le=131_072, description="characters of a content")
    query_chars: int = Field(8_192, ge=1, le=131_072, description="characters of a query")
    # Two ids of 256 characters, and three tenants before the user's, are the most that a row of a
    # b-tree has room for, and a content of 131,072 has words for a text search vector.
    user_id_chars: int = Field(256, ge=1, le=256, description="characters of a user id")
    conversation_id_chars: int = Field(
        256, ge=1, le=256, description="characters of a conversation id"
    )
    tags: int = Field(64, ge=0, le=10_000, description="tags of a memory, and excluded tags")
    tag_chars: int = Field(128, ge=1, le=10_000, description="characters of a tag")
    metadata_bytes: int = Field(
        16_384, ge=2, le=16_777_216, description="bytes of a metadata object as compact JSON"
    )
    metadata_depth: int = Field(16, ge=1, le=64, description="nested levels of a metadata object")
    category_chars: int = Field(128, ge=1, le=256, description="characters of a category")
    title_chars: int = Field(512, ge=1, le=10_000, description="characters of a title")
    doc_id_chars: int = Field(256, ge=1, le=10_000, description="characters of a doc_id")
    top_k: int = Field(100, ge=50, le=10_000, description="records of one recall or page")
    batch: int = Field(1_000, ge=1, le=10_000, description="records of one batch")
    body_bytes: int = Field(8_388_608, ge=1_024, description="bytes of a request body")

    def widened(self) -> Self:
        """With room for what a scoped driver adds to records that are within these limits.

        A user id gets a tenant and two separators before it. Knowledge becomes a memory whose
        conversation is the category and whose metadata holds the title, the doc_id and the
        metadata; a character takes up to six bytes of JSON.
        """
        box = 6 * (self.title_chars + self.doc_id_chars) + 64
        return self.model_copy(
            update={
                "user_id_chars": self.user_id_chars + TENANT_CHARS + 2,
                "conversation_id_chars": max(self.conversation_id_chars, self.category_chars),
                "metadata_bytes": self.metadata_bytes + box,
                "metadata_depth": self.metadata_depth + 1,
            }
        )
