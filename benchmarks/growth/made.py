"""The vectors of the rows and of the queries."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from app.embedding import Embedder, Vector

DIMENSION = 384


class Given(Embedder):
    """Answers with the vector that was set last."""

    name = "given"
    dimension = DIMENSION
    max_tokens = None

    def __init__(self) -> None:
        self.vector: Vector = np.eye(1, DIMENSION, dtype=np.float32)[0]

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self.vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.repeat(np.eye(1, DIMENSION, dtype=np.float32), len(texts), axis=0)


class Vectors:
    """Unit vectors of a file, or made ones that lie in clusters as those of texts do."""

    def __init__(self, path: Path | None) -> None:
        self._chance = np.random.default_rng(3)
        self._given = None if path is None else np.load(path, mmap_mode="r")
        self._centres = self._chance.standard_normal((500, DIMENSION)).astype(np.float32)
        self._start = 0

    def take(self, count: int) -> Vector:
        """The next ones; those of a file come again, slightly moved, when they are used up."""
        noise = self._chance.standard_normal((count, DIMENSION)).astype(np.float32)
        if self._given is None:
            return _unit(self._centres[self._chance.integers(0, 500, count)] + noise)
        places = np.arange(self._start, self._start + count)
        turn, rows = np.divmod(places, len(self._given))
        self._start += count
        moved: Vector = self._given[rows] + noise * (turn > 0)[:, None] * 0.005
        return _unit(moved)


def _unit(vectors: npt.NDArray[np.float32]) -> Vector:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)
