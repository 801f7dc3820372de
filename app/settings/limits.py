"""The limits of what callers may send."""

import re
from dataclasses import dataclass, replace
from typing import Self

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings

from app.settings.group import group

TENANT_CHARS = 32
"""The most characters of a tenant."""
TENANT = re.compile(rf"[A-Za-z0-9_-]{{1,{TENANT_CHARS}}}")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The largest values the service accepts; text is counted in Unicode code points.

    Those that no variable sets are what every backend has room for.
    """

    content_chars: int = 32_768
    query_chars: int = 8_192
    """More than a model reads."""
    user_id_chars: int = 256
    """Two ids, and three tenants before the user's, are the most that a row of a b-tree holds."""
    conversation_id_chars: int = 256
    tags: int = 64
    """Of a memory, and those that a recall excludes."""
    tag_chars: int = 128
    metadata_bytes: int = 16_384
    """Of the object as compact JSON in UTF-8."""
    metadata_depth: int = 16
    """Nested levels: each costs every parser on the way some of its stack."""
    category_chars: int = 128
    title_chars: int = 512
    doc_id_chars: int = 256
    top_k: int = 100
    """Records of one recall or page."""
    batch: int = 1_000
    """Records of one batch."""
    body_bytes: int = 8_388_608
    default_ttl: int | None = None
    """Seconds after which a memory expires that was stored without saying when; None: never."""

    @property
    def one_record_bytes(self) -> int:
        """The most bytes of a body that is about one record: each byte of it may be escaped.

        A character takes up to twelve bytes of JSON, a byte of metadata six.
        """
        texts = (
            self.content_chars,
            self.query_chars,
            self.user_id_chars,
            self.conversation_id_chars,
            self.category_chars,
            self.title_chars,
            self.doc_id_chars,
            self.tags * (self.tag_chars + 1),
        )
        return 12 * sum(texts) + 6 * self.metadata_bytes + 1_024

    def widened(self) -> Self:
        """With room for what a scoped driver adds to records that are within these limits.

        A user id gets a tenant and two separators before it. Knowledge becomes a memory whose
        conversation is the category and whose metadata holds the title, the doc_id, the position
        and the metadata, each key of it with two bytes more; a member has five bytes or more. A
        character takes up to six bytes of JSON.
        """
        box = 6 * (self.title_chars + self.doc_id_chars) + 96 + self.metadata_bytes // 2
        return replace(
            self,
            user_id_chars=self.user_id_chars + TENANT_CHARS + 2,
            conversation_id_chars=max(self.conversation_id_chars, self.category_chars),
            metadata_bytes=self.metadata_bytes + box,
        )


class LimitSettings(BaseSettings):
    """The limits that an installation may need otherwise."""

    model_config = group("MEMORY_MAX_")

    content_chars: int = Field(
        Limits.content_chars,
        ge=1,
        le=131_072,  # beyond that, words and windows of one text would hold others up
        description="characters of a content",
    )
    top_k: int = Field(Limits.top_k, ge=50, le=10_000, description="records of one recall or page")
    batch: int = Field(Limits.batch, ge=1, le=10_000, description="records of one batch")
    body_bytes: int = Field(Limits.body_bytes, ge=1_024, description="bytes of a request body")
    default_ttl: int | None = Field(
        None,
        ge=1,
        le=3_155_760_000,
        description="seconds after which a memory expires that was stored without saying when; "
        "unset: never",
        validation_alias=AliasChoices("MEMORY_DEFAULT_TTL"),
    )


def read_limits() -> Limits:
    """The limits, with what the environment sets."""
    return Limits(**LimitSettings().model_dump())
