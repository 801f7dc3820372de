"""Models without a file: a text's vector is made of its words, otherwise by each model."""

import asyncio
from collections.abc import Sequence
from zlib import crc32

import numpy as np
import numpy.typing as npt

from app.embedding import Embedder, Vector, Windows
from app.errors import ConfigurationError


class Words(Embedder):
    """A text is the sum of its words, each of which has a direction of its own.

    What the model reads at once are `max_tokens` words.
    """

    def __init__(self, name: str, dimension: int, window: int = 40) -> None:
        self.name, self.dimension, self.max_tokens = name, dimension, window
        self._directions: dict[str, npt.NDArray[np.float64]] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        vector: Vector = (await self.embed([text]))[0]
        return vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        await asyncio.sleep(0.001)  # others have their turn, as with a model in a thread
        vectors: Vector = np.stack([self._vector(text) for text in texts])
        return vectors

    async def windows(self, text: str, prefix: str = "") -> Windows:
        words = text.split() or [text]
        assert self.max_tokens is not None
        return Windows(
            " ".join(words[n : n + self.max_tokens]) for n in range(0, len(words), self.max_tokens)
        )

    def _vector(self, text: str) -> Vector:
        total = np.zeros(self.dimension)
        for word in text.lower().split() or [text]:
            total += self._direction(word)
        unit: Vector = (total / np.linalg.norm(total)).astype(np.float32)
        return unit

    def _direction(self, word: str) -> npt.NDArray[np.float64]:
        if word not in self._directions:
            seed = crc32(f"{self.name} {word}".encode())
            self._directions[word] = np.random.default_rng(seed).standard_normal(self.dimension)
        return self._directions[word]


FIRST = Words("first", 24)
SECOND = Words("second", 16, window=25)
ALIKE = Words("alike", 24)
"""Another model than the first, of the same dimension: nothing but its vectors tells them apart."""
MODELS = {model.name: model for model in (FIRST, SECOND, ALIKE)}


def embedder_of(name: str) -> Embedder:
    """The model of that name, as a service with another one loads it."""
    if name not in MODELS:
        raise ConfigurationError(f"MEMORY_EMBEDDING_MODEL: there is no {name!r}")
    return MODELS[name]
