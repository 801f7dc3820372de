"""python -m benchmarks.quality SET.json: recall@5/10/20, nDCG@10 and MRR of each ranking.

The set's form is documented in `retrieval_set.py`. It is stored in a database of its own, on the
embedded PostgreSQL in a temporary folder, or on DATABASE_URL, under the users' names in the set.
"""

import argparse
import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

from app.core.memory.records import NewMemory
from app.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder, build_embedder
from app.settings import PARTS, RecallSettings, Settings, load_settings
from benchmarks.quality.figures import DEPTH, Figures, figures
from benchmarks.quality.retrieval_set import RetrievalSet, SetUser, load

_BATCH = 500


async def run(retrieval_set: RetrievalSet, settings: Settings, rankings: list[str]) -> None:
    """Store the set, ask every query by every ranking, print a line for each."""
    embedder = build_embedder(settings.embedding)
    try:
        ids: dict[str, dict[str, str]] = {}
        async with _driver(settings, embedder, "fused") as driver:
            for user in retrieval_set.users:
                ids[user.user_id] = await _store(driver, user)
        queries = sum(len(user.queries) for user in retrieval_set.users)
        memories = sum(len(user.memories) for user in retrieval_set.users)
        print(f"{len(ids)} users, {memories} memories, {queries} queries")
        print(f"{'ranking':32} recall@5 recall@10 recall@20 nDCG@10    MRR  p50 ms")
        for ranking in rankings:
            by_vector = ranking != "lexical only"
            async with _driver(settings, embedder, ranking if by_vector else "vector") as driver:
                found, times = await _ask(driver, retrieval_set, ids, use_vector=by_vector)
            _print(ranking, figures(found), times)
    finally:
        await embedder.close()


def _print(ranking: str, of: Figures, times: list[float]) -> None:
    print(
        f"{ranking:32} {of.recall_5:8.3f} {of.recall_10:9.3f} {of.recall_20:9.3f} "
        f"{of.ndcg_10:7.3f} {of.mrr:6.3f} {median(times):7.2f}"
    )


@asynccontextmanager
async def _driver(
    settings: Settings, embedder: Embedder, ranking: str
) -> AsyncIterator[PgvectorDriver]:
    recall = RecallSettings(ranking=ranking, language=settings.recall.language)
    async with PgvectorDriver(settings.database, embedder, settings.limits, recall) as driver:
        yield driver


async def _store(driver: PgvectorDriver, user: SetUser) -> dict[str, str]:
    """The service's ids of the set's ids."""
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


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("set", type=Path, help="a retrieval set as JSON")
    parser.add_argument(
        "--without-each", action="store_true", help="also fused without each of its parts"
    )
    arguments = parser.parse_args()
    rankings = ["vector", "lexical only", "fused"]
    if arguments.without_each:
        for part in PARTS:
            gone = {part, "window"} if part == "lexical" else {part}
            rankings.append(",".join(other for other in PARTS if other not in gone))
    retrieval_set = load(arguments.set)
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings()
        if settings.database.url is None:
            database = settings.database.model_copy(update={"data_dir": Path(folder) / "data"})
            settings = settings.model_copy(update={"database": database})
        asyncio.run(run(retrieval_set, settings, rankings))


if __name__ == "__main__":
    main()
