"""An embedder that remembers what it was asked for, and lets a test act meanwhile."""

from collections.abc import Awaitable, Callable, Sequence

from app.embedding import Embedder, Vector


class Watched(Embedder):
    """The real model; `texts` are those that it embedded, in their order."""

    def __init__(self, model: Embedder) -> None:
        self.name, self.dimension, self.max_tokens = model.name, model.dimension, model.max_tokens
        self.texts: list[str] = []
        self.meanwhile: Callable[[], Awaitable[object]] | None = None
        """What happens once, while texts are being embedded."""
        self._model = model

    async def open(self) -> None:
        await self._model.open()

    async def close(self) -> None:
        pass

    async def embed_query(self, text: str) -> Vector:
        return await self._model.embed_query(text)

    async def embed(self, texts: Sequence[str]) -> Vector:
        self.texts += texts
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            await meanwhile()
        return await self._model.embed(texts)
