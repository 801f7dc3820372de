"""The ranking's settings."""

from collections.abc import Sequence

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from app.settings.group import group


class RecallSettings(BaseSettings):
    """How memories are ranked for a query."""

    model_config = group("MEMORY_RECALL_")

    ranking: str = Field(
        "fused",
        description="fused (all of it), vector (the cosine alone), or some of "
        "lexical,window,date,speaker,form",
    )
    language: str = Field(
        "english",
        pattern=r"^[a-z_][a-z0-9_]{0,62}$",
        description="of stems and stop words: english, german ... or simple, which has neither",
    )

    context: bool = Field(
        False,
        description="also embed each memory with the two before it in its conversation: finds "
        "more, and storing costs twice",
    )

    resident_mb: int = Field(
        80,
        ge=0,
        le=1_000_000,
        description="megabytes for the memories of users who were recalled lately; 0: none is kept",
    )

    @field_validator("ranking")
    @classmethod
    def _known_parts(cls, ranking: str) -> str:
        unknown = [part for part in _parts(ranking) if part not in PARTS]
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not fused, vector, or some of {', '.join(PARTS)}")
        if "window" in _parts(ranking) and "lexical" not in _parts(ranking):
            raise ValueError("window needs lexical")
        return ranking

    @property
    def parts(self) -> frozenset[str]:
        """The evidence that counts beside the cosine: some of `PARTS`."""
        return frozenset(_parts(self.ranking))


def _parts(ranking: str) -> Sequence[str]:
    if ranking in {"fused", "vector"}:
        return PARTS if ranking == "fused" else ()
    return [part.strip() for part in ranking.split(",")]


PARTS = ("lexical", "window", "date", "speaker", "form")
"""Kinds of evidence that a ranking adds to the cosine; `app/ranking` explains them."""
