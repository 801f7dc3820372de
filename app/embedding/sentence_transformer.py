"""Embedding in this process, with sentence-transformers on torch."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from app.embedding.base import Embedder, Vector
from app.embedding.locate import locate_model
from app.errors import ConfigurationError
from app.settings import EmbeddingSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

T = TypeVar("T")


class SentenceTransformerEmbedder(Embedder):
    """One model in one thread of its own.

    The thread works through one pass of `batch_size` texts at a time. Lists, however many, have
    one pass in its queue together, so a query waits for that one and for the queries before it.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.name = settings.model
        self._settings = settings
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._one_pass = asyncio.Semaphore(1)
        self._model: SentenceTransformer | None = None

    async def open(self) -> None:
        if self._model is None:
            await self._run(self._load)

    async def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedding")
        self._model = None

    async def embed_query(self, text: str) -> Vector:
        vectors = await self._run(lambda: self._encode([text], query=True))
        return np.asarray(vectors[0], np.float32)

    async def embed(self, texts: Sequence[str]) -> Vector:
        await self.open()
        size = self._settings.batch_size
        shortest_first = sorted(range(len(texts)), key=lambda n: len(texts[n]))
        vectors = np.empty((len(texts), self.dimension), np.float32)
        for start in range(0, len(texts), size):
            rows = shortest_first[start : start + size]
            batch = [texts[n] for n in rows]
            async with self._one_pass:
                vectors[rows] = await self._run(partial(self._encode, batch, query=False))
        return vectors

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> "SentenceTransformer":
        if self._model is not None:
            return self._model
        try:
            place = locate_model(self._settings)
            library = importlib.import_module("sentence_transformers")
            torch = importlib.import_module("torch")
            transformers_logging = importlib.import_module("transformers.utils.logging")
        except ImportError as error:
            raise ConfigurationError(
                f"embedding needs sentence-transformers ({error}): pip install '.[embedding]'"
            ) from error
        transformers_logging.disable_progress_bar()
        if self._settings.threads is not None:
            torch.set_num_threads(self._settings.threads)
        try:
            torch.zeros(1, device=self._settings.device)
        except (AssertionError, RuntimeError) as error:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_DEVICE: {self._settings.device!r} is not a device here"
            ) from error
        try:
            model: SentenceTransformer = library.SentenceTransformer(
                place, device=self._settings.device
            )
        except Exception as error:  # a broken model can make the library raise anything
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: the model {self.name!r} can't be loaded "
                f"({type(error).__name__}). Give the path of a downloaded model, or let this "
                "machine reach the Hugging Face hub."
            ) from error
        dimension = model.get_embedding_dimension()
        if dimension is None:
            raise ConfigurationError(
                f"MEMORY_EMBEDDING_MODEL: {self.name!r} does not tell its dimension"
            )
        self.dimension = dimension
        self.max_tokens = model.get_max_seq_length()
        self._model = model
        self._encode(["The first pass is slower than those after it."], query=True)
        return model

    def _encode(self, texts: list[str], *, query: bool) -> Vector:
        model = self._load()
        encode = model.encode_query if query else model.encode_document
        vectors = encode(
            texts,
            batch_size=len(texts),
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return np.asarray(vectors, np.float32)
