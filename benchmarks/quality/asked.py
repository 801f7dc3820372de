"""A retrieval set, stored on pgvector and asked by each ranking."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter
from typing import NamedTuple

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import RecallSettings, Settings
from benchmarks.quality.figures import DEPTH, Figures, figures
from benchmarks.quality.retrieval_set import RetrievalSet, SetUser

LEXICAL = "lexical only"
"""The ranking that asks without the vector."""

_BATCH = 500


class Asked(NamedTuple):
    """What one ranking found."""

    ranking: str
    figures: Figures
    milliseconds: float
    """The median of a recall's."""


async def asked(
    retrieval_set: RetrievalSet, settings: Settings, embedder: Embedder, rankings: Sequence[str]
) -> AsyncIterator[Asked]:
    """Store the set in the database of the settings; ask every query by one ranking after another.

    `rankings` are values of MEMORY_RECALL_RANKING, and `LEXICAL`. The embedder stays open.
    """
    ids: dict[str, dict[str, str]] = {}
    async with _driver(settings, embedder, "fused") as driver:
        for user in retrieval_set.users:
            ids[user.user_id] = await _store(driver, user)
    for ranking in rankings:
        by_vector = ranking != LEXICAL
        async with _driver(settings, embedder, ranking if by_vector else "vector") as driver:
            found, times = await _ask(driver, retrieval_set, ids, use_vector=by_vector)
        yield Asked(ranking, figures(found), median(times))


@asynccontextmanager
async def _driver(
    settings: Settings, embedder: Embedder, ranking: str
) -> AsyncIterator[PgvectorDriver]:
    recall = RecallSettings(ranking=ranking, language=settings.recall.language)
    async with PgvectorDriver(settings.database, embedder, settings.limits, recall) as driver:
        yield driver


async def _store(driver: PgvectorDriver, user: SetUser) -> dict[str, str]:
    """The set's ids of the service's ids."""
    new = [
        NewMemory(
            user_id=user.user_id,
            content=memory.content,
            conversation_id=memory.conversation_id,
            tags=memory.tags,
            metadata=memory.metadata,
        )
        for memory in user.memories
    ]
    ids = {}
    for start in range(0, len(new), _BATCH):
        stored = await driver.store_many(new[start : start + _BATCH])
        for memory, record in zip(user.memories[start : start + _BATCH], stored, strict=True):
            ids[record.memory_id] = memory.id
    return ids


async def _ask(
    driver: PgvectorDriver,
    retrieval_set: RetrievalSet,
    ids: dict[str, dict[str, str]],
    *,
    use_vector: bool,
) -> tuple[list[tuple[list[str], list[str]]], list[float]]:
    answers, times = [], []
    for user in retrieval_set.users:
        for query in user.queries:
            started = perf_counter()
            found = await driver.recall(
                user.user_id, query=query.query, top_k=DEPTH, use_vector=use_vector
            )
            times.append((perf_counter() - started) * 1000)
            own = ids[user.user_id]
            answers.append(([own[memory.memory_id] for memory in found], query.gold))
    return answers, times
