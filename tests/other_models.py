"""Models of another dimension that tests bring records to."""

import zlib
from collections.abc import Sequence

import numpy as np

from app.embedding import Embedder, Vector


class LetterModel(Embedder):
    """Counts runs of three letters, each at one of `dimension` places: texts that share some are
    near one another."""

    max_tokens = None

    def __init__(self, name: str = "letters", dimension: int = 48, seed: int = 0) -> None:
        self.name = name
        self.dimension = dimension
        self._seed = seed

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return self._vector(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vector:
        vector = np.full(self.dimension, 0.01, np.float32)
        padded = f"  {text.lower()} "
        for n in range(len(padded) - 2):
            place = zlib.crc32(padded[n : n + 3].encode("utf-8", "surrogatepass"), self._seed)
            vector[place % self.dimension] += 1
        made: Vector = vector / np.linalg.norm(vector)
        return made
