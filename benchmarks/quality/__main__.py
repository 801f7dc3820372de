"""python -m benchmarks.quality SET.json: recall@5/10/20, nDCG@10 and MRR of each ranking.

The set's form is documented in `retrieval_set.py`. It is stored in a database of its own, on the
embedded PostgreSQL in a temporary folder, or on DATABASE_URL, under the users' names in the set.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

from app.embedding import build_embedder
from app.settings import PARTS, Settings, load_settings
from benchmarks.quality.asked import LEXICAL, asked
from benchmarks.quality.retrieval_set import RetrievalSet, load


async def run(retrieval_set: RetrievalSet, settings: Settings, rankings: list[str]) -> None:
    """Store the set, ask every query by every ranking, print a line for each."""
    embedder = build_embedder(settings.embedding)
    queries = sum(len(user.queries) for user in retrieval_set.users)
    memories = sum(len(user.memories) for user in retrieval_set.users)
    print(f"{len(retrieval_set.users)} users, {memories} memories, {queries} queries")
    print(f"{'ranking':32} recall@5 recall@10 recall@20 nDCG@10    MRR  p50 ms")
    try:
        async for ranking, of, milliseconds in asked(retrieval_set, settings, embedder, rankings):
            print(
                f"{ranking:32} {of.recall_5:8.3f} {of.recall_10:9.3f} {of.recall_20:9.3f} "
                f"{of.ndcg_10:7.3f} {of.mrr:6.3f} {milliseconds:7.2f}"
            )
    finally:
        await embedder.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("set", type=Path, help="a retrieval set as JSON")
    parser.add_argument(
        "--without-each", action="store_true", help="also fused without each of its parts"
    )
    arguments = parser.parse_args()
    rankings = ["vector", LEXICAL, "fused"]
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
