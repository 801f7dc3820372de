"""A recall's query as ranking takes it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from app.core.memory.requests import Recall
from app.errors import ConfigurationError
from app.ranking.candidates import Candidates
from app.ranking.query import Query, Recency
from app.ranking.words import LANGUAGES
from app.settings import RecallSettings

_LARGE = 20_000
"""More candidates than these are weighed in a thread: others are answered meanwhile."""

Made = TypeVar("Made")


async def aside(candidates: Candidates, work: Callable[[], Made]) -> Made:
    """What `work` makes of the candidates: in a thread where they are many."""
    return await asyncio.to_thread(work) if len(candidates) > _LARGE else work()


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
