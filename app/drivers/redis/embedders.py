"""The embedders of a driver: the configured one, and those of other models of its database."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

from app.embedding import Embedder, Model
from app.errors import ConfigurationError

EmbedderOf: TypeAlias = Callable[[str], Embedder]
"""Gives the embedder of a model, by its name, with the settings of the configured one."""


class Embedders:
    """Loads a model where a database's vectors are of it. Whoever gave an embedder closes it."""

    def __init__(self, configured: Embedder, embedder_of: EmbedderOf | None) -> None:
        self.configured = configured
        self._embedder_of = embedder_of
        self._loaded: list[tuple[Embedder, Model]] = []
        self._loading = asyncio.Lock()

    async def model(self) -> Model:
        """The configured one. Raises `ConfigurationError` where it can't be loaded."""
        async with self._loading:
            return await self._model_of(self.configured)

    def find(self, model: Model) -> Embedder | None:
        """The embedder of the model, if it is loaded."""
        return next((each for each, own in self._loaded if own.is_same(model)), None)

    async def load(self, model: Model) -> Embedder:
        """The embedder of the model. Raises `ConfigurationError` where it can't be loaded."""
        async with self._loading:
            found = self.find(model)
            if found is not None:
                return found
            if self._embedder_of is None:
                raise ConfigurationError(
                    f"MEMORY_EMBEDDING_MODEL: {model.name!r} can't be loaded beside "
                    f"{self.configured.name!r}"
                )
            other = self._embedder_of(model.name)
            if not (await self._model_of(other)).is_same(model):
                raise ConfigurationError(
                    f"MEMORY_EMBEDDING_MODEL: {model.name!r} makes other vectors here than the "
                    "model of that name which the database has"
                )
            return other

    async def _model_of(self, embedder: Embedder) -> Model:
        for each, own in self._loaded:
            if each is embedder:
                return own
        await embedder.open()
        own = await Model.of(embedder)
        self._loaded.append((embedder, own))
        return own
