"""A recall's query as ranking takes it."""

from datetime import UTC, datetime

from app.core.memory.requests import Recall
from app.errors import ConfigurationError
from app.ranking.query import Query, Recency
from app.ranking.words import LANGUAGES
from app.settings import RecallSettings


def query_of(wanted: Recall, settings: RecallSettings, language: str) -> Query:
    """The query of a recall that has one, with words of `language`."""
    recency = wanted.recency
    return Query(
        text=wanted.query or "",
        as_of=wanted.as_of or datetime.now(UTC),
        language=language,
        parts=settings.parts,
        recency=Recency(recency.half_life_days, recency.weight) if recency else None,
    )


def check_language(language: str) -> None:
    """Raise `ConfigurationError` for a language that there are no words of."""
    if language not in LANGUAGES:
        known = ", ".join(sorted(LANGUAGES))
        raise ConfigurationError(f"MEMORY_RECALL_LANGUAGE: {language!r} is none of {known}")
