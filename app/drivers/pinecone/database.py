"""The index as it was opened: of our dimension, and with records of our model and our words."""

import asyncio
import json
from typing import Any, Final

import numpy as np

from app.drivers.pinecone.index import Index
from app.drivers.pinecone.layout import LAYOUT, filler, numbers
from app.embedding import AGREEMENT, SAMPLE, Embedder, Vector
from app.errors import ConfigurationError
from app.ranking.words import VERSION
from app.settings import PineconeSettings

_ABOUT: Final = "about"


class Database:
    """What is checked when the index is opened; one that is not ours is refused."""

    def __init__(
        self, settings: PineconeSettings, index: Index, embedder: Embedder, language: str
    ) -> None:
        self.index = index
        self.is_open = False
        self._settings = settings
        self._embedder = embedder
        self._language = language
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Check what is there. Raises `ConfigurationError`, or what may work later."""
        async with self._opening:
            if not self.is_open:
                await self._embedder.open()
                self.index.dimension = self._embedder.dimension
                await self._check_index()
                sample = (await self._embedder.embed([SAMPLE]))[0]
                await self._check_records(sample)
                self.is_open = True

    async def _check_index(self) -> None:
        """Refuse an index of another dimension or metric, or one that is not for vectors."""
        host, ours = self._settings.called("host"), self._embedder.dimension
        told = (await self.index.client.post("/describe_index_stats", {})).body
        if not isinstance(told.get("dimension"), int):
            raise ConfigurationError(
                f"{host}: the index has no dense vectors of one dimension: it is one of documents, "
                "or sparse"
            )
        if told["dimension"] != ours:
            raise ConfigurationError(
                f"{host}: the index has {told['dimension']} dimensions, and the model "
                f"{self._embedder.name!r} has {ours}"
            )
        if str(told.get("metric", "cosine")).lower() != "cosine":
            raise ConfigurationError(f"{host}: the index must have the metric cosine")
        if str(told.get("vectorType", "dense")).lower() != "dense":
            raise ConfigurationError(f"{host}: the index must be of dense vectors")

    async def _check_records(self, sample: Vector) -> None:
        """Check what the records were made with; where there are none, say it."""
        ours = self._embedder
        about: dict[str, Any] = {
            "model": ours.name,
            "layout": LAYOUT,
            "language": self._language,
            "words": VERSION,
            "sample": numbers(sample),
        }
        namespace = self.index.names.about
        there = (await self.index.fetch(namespace, [_ABOUT])).get(_ABOUT)
        if there is None:
            await self._say(about)
            return
        known = json.loads(str(there.get("b", "{}")))
        self._check_layout(known)
        self._check_model(known, sample)
        await self._check_words(known, about)

    async def _say(self, about: dict[str, Any]) -> None:
        vector = filler(self.index.dimension)
        metadata = {"k": "a", "b": json.dumps(about)}
        namespace = self.index.names.about
        await self.index.upsert(namespace, [{"id": _ABOUT, "values": vector, "metadata": metadata}])

    def _check_layout(self, known: dict[str, Any]) -> None:
        if known.get("layout") != LAYOUT:
            raise ConfigurationError(
                f"{self._settings.called('namespace')}: the records there are laid out by another "
                "version of the service: use that, or another namespace"
            )

    def _check_model(self, known: dict[str, Any], sample: Vector) -> None:
        """Refuse a model other than the one that the records were embedded with.

        It is known by its vector of one sentence, whatever it is called.
        """
        theirs = np.array(known["sample"], np.float32)
        if len(theirs) != len(sample) or float(theirs @ sample) < AGREEMENT:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: {self._embedder.name!r} is not the model of the vectors "
                f"there ({known['model']}): set it back, or choose another "
                f"{self._settings.called('namespace')}"
            )

    async def _check_words(self, known: dict[str, Any], about: dict[str, Any]) -> None:
        """Refuse words of another language or version; where no user has any, take ours."""
        if (known["language"], known["words"]) == (self._language, VERSION):
            return
        async for _ in self.index.namespaces(self.index.names.users):
            raise ConfigurationError(
                f"MEMORY_RECALL_LANGUAGE: the words of the stored memories are "
                f"{known['language']}, version {known['words']}, not {self._language}, version "
                f"{VERSION}: set it back, or export the records into another "
                f"{self._settings.called('namespace')}"
            )
        await self._say(about)
