"""Our embedder against sentence-transformers on torch, interleaved: run from the project's folder.

python benchmarks/embedding.py [--texts FILE] [--count 1000] [--rounds 5] [--threads N]

FILE has one text a line; without it, texts of 1 to 600 tokens are cut from Python's own
documentation. Printed are medians over the rounds, and ratios within one run: the absolute figures
of two runs do not compare.
"""

import argparse
import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from pydoc_data.topics import topics

import numpy as np
from sentence_transformers import SentenceTransformer

from app.embedding import Embedder, build_embedder
from app.embedding.locate import locate_model
from app.settings import EmbeddingSettings

QUERY = "What does she boil the water for her tea in, these days?"
CALLERS = 16


def generated(count: int) -> list[str]:
    """Real sentences, with lengths spread evenly over the powers of two."""
    words = re.split(r"\s+", " ".join(topics.values()))
    random = np.random.default_rng(1)
    texts = []
    for size in np.exp2(random.uniform(0, 8.5, count)).astype(int):
        start = int(random.integers(len(words) - size))
        texts.append(" ".join(words[start : start + size]))
    return texts


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    await call()
    return time.perf_counter() - start


async def compare(ours: Embedder, torch: SentenceTransformer, texts: list[str], n: int) -> None:
    """Print what one run shows."""

    async def torch_texts() -> object:
        return torch.encode(texts, normalize_embeddings=True, show_progress_bar=False)

    async def torch_query() -> object:
        return torch.encode(QUERY, normalize_embeddings=True, show_progress_bar=False)

    async def torch_callers() -> None:
        for _ in range(CALLERS):
            await torch_query()

    pairs: dict[str, tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]], int]]
    pairs = {
        "one query": (torch_query, lambda: ours.embed_query(QUERY), 20),
        f"{CALLERS} queries at once": (
            torch_callers,
            lambda: asyncio.gather(*(ours.embed_query(f"{QUERY} {k}") for k in range(CALLERS))),
            1,
        ),
        f"{len(texts)} texts": (torch_texts, lambda: ours.embed(texts), 1),
    }
    for name, (theirs, our, repeats) in pairs.items():
        await theirs()
        await our()
        times = [
            (await seconds(theirs), await seconds(our)) for _ in range(n) for _ in range(repeats)
        ]
        before, after = np.median(np.array(times), axis=0) * 1_000
        print(f"{name}: torch {before:.2f} ms, ours {after:.2f} ms, ratio {before / after:.2f}")
    own = torch.encode(texts, normalize_embeddings=True, show_progress_bar=False)
    cosines = (np.asarray(own) * await ours.embed(texts)).sum(axis=1)
    print(f"least cosine of {len(texts)} texts: {cosines.min():.7f}")


async def main() -> None:
    """Read the options, compare, close."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=Path)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    if options.texts:
        texts = options.texts.read_text().splitlines()[: options.count]
    else:
        texts = generated(options.count)
    settings = EmbeddingSettings(query_cache=0, threads=options.threads)
    ours = build_embedder(settings)
    await ours.open()
    torch = SentenceTransformer(locate_model(settings), device="cpu")
    try:
        await compare(ours, torch, texts, options.rounds)
    finally:
        await ours.close()


if __name__ == "__main__":
    asyncio.run(main())
