"""An embedder that gives a text the same vector in every batch."""

import asyncio
from collections.abc import Sequence

import numpy as np

from app.embedding import Embedder, Vector, Windows
from app.embedding.base import SharedVectors

_SECONDS = 0.001


class Remembering(Embedder):
    """The model, which cuts and embeds a text once for all tests and drivers.

    So drivers differ in nothing that a batch rounds otherwise, and what many tests store takes the
    model's time once. Others run meanwhile, as they do while a model computes.
    """

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        self.engine = model.engine
        self._model = model
        self._vectors: dict[str, Vector] = {}
        self._windows: dict[tuple[str, str], Windows] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return await self._model.embed_query(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        await asyncio.sleep(_SECONDS)
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, await self._model.embed(new), strict=True))
        found = np.zeros((len(texts), self.dimension), np.float32)
        for n, text in enumerate(texts):
            found[n] = self._vectors[text]
        return found

    async def windows(self, text: str, prefix: str = "") -> Windows:
        if (text, prefix) not in self._windows:
            self._windows[text, prefix] = await self._model.windows(text, prefix)
        windows = self._windows[text, prefix]
        self._note(text, windows)
        return windows

    async def embed_question(self, text: str) -> Vector:
        return await self._model.embed_question(text)

    def share_queries(self, vectors: SharedVectors) -> None:
        self._model.share_queries(vectors)
