"""`python -m benchmarks.models SET.json MODEL...`: what models give on a retrieval set, and cost.

Prints a row of Markdown for each model. A MODEL is a value of MEMORY_EMBEDDING_MODEL, or `NAME@URL`
for one behind an endpoint like OpenAI's. The engine is that of MEMORY_EMBEDDING_ENGINE. For each
model the set is stored in an embedded PostgreSQL of its own, in a temporary folder. Then the costs
are taken in rounds of all models, so that what else the machine does falls on each of them. Printed
are medians of the rounds, with the smallest and the largest.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter

from app.embedding import Embedder, build_embedder, query_cache
from app.embedding.locate import local_folder, locate_model
from app.settings import DatabaseSettings, EmbeddingSettings, load_settings
from benchmarks.quality.asked import asked
from benchmarks.quality.figures import Figures
from benchmarks.quality.retrieval_set import RetrievalSet, load

_ROUNDS = 5
_QUERIES = 40
_BATCHES, _BATCH = 8, 32

HEADINGS = (
    "model",
    "engine",
    "dimensions",
    "tokens",
    "MB",
    "recall@10",
    "nDCG@10",
    "vector alone: recall@10",
    "nDCG@10",
    "one query, ms",
    "texts/s",
)


@dataclass
class Measured:
    """One model's row."""

    name: str
    engine: str
    dimension: int
    max_tokens: int | None
    megabytes: float | None
    """Of the folder's files; None behind an endpoint."""
    fused: Figures
    vector: Figures
    query_ms: list[float] = field(default_factory=list)
    """A median for each round."""
    texts_per_second: list[float] = field(default_factory=list)
    """Of batches of 32, for each round."""

    def row(self) -> str:
        """The cells of `HEADINGS`, as Markdown."""
        cells = [
            self.name,
            self.engine,
            str(self.dimension),
            str(self.max_tokens or ""),
            "" if self.megabytes is None else f"{self.megabytes:,.0f}",
            *(f"{of:.3f}" for of in (self.fused.recall_10, self.fused.ndcg_10)),
            *(f"{of:.3f}" for of in (self.vector.recall_10, self.vector.ndcg_10)),
            _spread(self.query_ms, 1),
            _spread(self.texts_per_second, 0),
        ]
        return f"| {' | '.join(cells)} |"


def settings_of(model: str) -> EmbeddingSettings:
    """The environment's settings with this model: a folder, a name, or `NAME@URL`."""
    name, at, url = model.partition("@http")
    return EmbeddingSettings(model=name, url=f"http{url}" if at else None)


def megabytes(settings: EmbeddingSettings) -> float | None:
    """Of all files in the model's folder; None for a model that is in none, behind an endpoint."""
    folder = local_folder(locate_model(settings)) if settings.url is None else None
    if folder is None:
        return None
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


async def measure(
    retrieval_set: RetrievalSet, embedder: Embedder, settings: EmbeddingSettings
) -> Measured:
    """What the model of an open embedder finds, stored in a database of its own."""
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        database = DatabaseSettings(url=None, data_dir=Path(folder) / "data")
        whole = load_settings(embedding=settings, database=database)
        fused, vector = [
            of async for _, of, _ in asked(retrieval_set, whole, embedder, ["fused", "vector"])
        ]
    return Measured(
        settings.model.rstrip("/").rpartition("/")[2],
        embedder.engine,
        embedder.dimension,
        embedder.max_tokens,
        megabytes(settings),
        fused,
        vector,
    )


async def cost(
    embedder: Embedder, row: Measured, queries: Sequence[str], texts: Sequence[str]
) -> None:
    """One round: each query alone, the texts in batches of 32."""
    times = []
    for query in queries:
        started = perf_counter()
        await embedder.embed_query(query)
        times.append((perf_counter() - started) * 1_000)
    row.query_ms.append(median(times))
    started = perf_counter()
    for start in range(0, len(texts), _BATCH):
        await embedder.embed(texts[start : start + _BATCH])
    row.texts_per_second.append(len(texts) / (perf_counter() - started))


async def run(retrieval_set: RetrievalSet, models: Sequence[str]) -> None:
    """Measure every model and print the table."""
    query_cache.QUERIES = 0  # each query is computed, however often it is asked
    chosen = [settings_of(model) for model in models]
    embedders = [build_embedder(settings) for settings in chosen]
    try:
        rows = []
        for settings, embedder in zip(chosen, embedders, strict=True):
            await embedder.open()
            rows.append(await measure(retrieval_set, embedder, settings))
        queries = [query.query for user in retrieval_set.users for query in user.queries]
        texts = [memory.content for user in retrieval_set.users for memory in user.memories]
        for _ in range(_ROUNDS):
            for embedder, row in zip(embedders, rows, strict=True):
                await cost(embedder, row, queries[:_QUERIES], texts[: _BATCHES * _BATCH])
    finally:
        for embedder in embedders:
            await embedder.close()
    print(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}")
    for row in rows:
        print(row.row())


def _spread(values: Sequence[float], digits: int) -> str:
    middle, least, most = (f"{of(values):,.{digits}f}" for of in (median, min, max))
    return f"{middle} ({least} to {most})"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.models", description=__doc__)
    parser.add_argument("set", type=Path, help="a retrieval set as JSON")
    parser.add_argument("model", nargs="+", help="a folder, a name, or NAME@URL")
    arguments = parser.parse_args()
    asyncio.run(run(load(arguments.set), arguments.model))


if __name__ == "__main__":
    main()
