"""Our engines against sentence-transformers on torch, interleaved: run from the project's folder.

python benchmarks/embedding.py [--texts FILE] [--count 1000] [--rounds 5] [--threads N]

FILE has one text a line; without it, texts of 1 to 600 tokens are cut from Python's own
documentation. Printed are medians over the rounds, and ratios within one run: the absolute figures
of two runs do not compare. OpenVINO is there where it is installed.
"""

import argparse
import asyncio
import importlib.util
import re
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from pydoc_data.topics import topics
from typing import Literal

import numpy as np
from sentence_transformers import SentenceTransformer

from app.embedding import Embedder, Vector, build_embedder, query_cache
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


class Torch:
    """What there is to beat."""

    def __init__(self, model: SentenceTransformer) -> None:
        self._model = model

    async def embed(self, texts: list[str]) -> Vector:
        vectors = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(vectors)

    async def embed_query(self, text: str) -> Vector:
        vector: Vector = (await self.embed([text]))[0]
        return vector


Engine = Embedder | Torch


async def callers(engine: Engine) -> None:
    """Queries of different texts; torch takes them one after another."""
    await asyncio.gather(*(engine.embed_query(f"{QUERY} {k}") for k in range(CALLERS)))


async def compare(engines: dict[str, Engine], texts: list[str], rounds: int) -> None:
    """Print what one run shows; the first engine is what the others are compared with."""
    calls: dict[str, tuple[Callable[[Engine], Awaitable[object]], int]] = {
        "one query": (lambda engine: engine.embed_query(QUERY), 20),
        f"{CALLERS} queries at once": (callers, 1),
        f"{len(texts)} texts": (lambda engine: engine.embed(texts), 1),
    }
    for name, (call, repeats) in calls.items():
        for engine in engines.values():
            await call(engine)
        times = [
            [await seconds(partial(call, engine)) for engine in engines.values()]
            for _ in range(rounds * repeats)
        ]
        medians = np.median(np.array(times), axis=0) * 1_000
        shown = [
            f"{which} {median:.2f} ms (ratio {medians[0] / median:.2f})"
            for which, median in zip(engines, medians, strict=True)
        ]
        print(f"{name}: {', '.join(shown)}")
    own, *others = [await engine.embed(texts) for engine in engines.values()]
    for which, vectors in zip(list(engines)[1:], others, strict=True):
        cosines = (own * vectors).sum(axis=1)
        print(f"least cosine of {len(texts)} texts, {which}: {cosines.min():.7f}")


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
    query_cache.QUERIES = 0  # each query is computed, however often it is asked
    names: list[Literal["onnxruntime", "openvino"]] = ["onnxruntime", "openvino"]
    ours = [
        build_embedder(EmbeddingSettings(engine=name, threads=options.threads))
        for name in names
        if importlib.util.find_spec(name)
    ]
    for embedder in ours:
        await embedder.open()
    torch = Torch(SentenceTransformer(locate_model(EmbeddingSettings()), device="cpu"))
    try:
        engines: dict[str, Engine] = {
            "torch": torch,
            **{embedder.engine: embedder for embedder in ours},
        }
        await compare(engines, texts, options.rounds)
    finally:
        for embedder in ours:
            await embedder.close()


if __name__ == "__main__":
    asyncio.run(main())
