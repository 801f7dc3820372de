"""An embedder that gives a text the same vector in every batch."""

from collections.abc import Sequence

import numpy as np

from app.embedding import Embedder, Vector, Windows


class Remembering(Embedder):
    """The model, which embeds a text once for all drivers.

    So drivers differ in nothing that a batch rounds otherwise, and 320 texts take no time.
    """

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        self._model = model
        self._vectors: dict[str, Vector] = {}

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return await self._model.embed_query(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors.update(zip(new, await self._model.embed(new), strict=True))
        return np.stack([self._vectors[text] for text in texts])

    async def windows(self, text: str, prefix: str = "") -> Windows:
        return await self._model.windows(text, prefix)
