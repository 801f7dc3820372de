"""What drivers ask of an embedder."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float32]


MOST_WINDOWS = 64
"""Windows of one text at most: as many vectors, and passes of the model, as a text may cost."""


class Windows(list[str]):
    """Pieces of a text in their order, each of which the model reads whole."""

    truncated: bool = False
    """Whether parts of the text are in no window, because it has more than `MOST_WINDOWS`."""


_truncated: ContextVar[set[str] | None] = ContextVar("truncated", default=None)


@contextmanager
def noting_truncated() -> Iterator[set[str]]:
    """The texts that embedders truncate for what runs inside of the `with`; they are noted here."""
    texts: set[str] = set()
    token = _truncated.set(texts)
    try:
        yield texts
    finally:
        _truncated.reset(token)


class SharedVectors(Protocol):
    """Where several processes keep vectors of queries. It never fails: it finds nothing instead."""

    async def find_vector(self, key: str) -> bytes | None:
        """What was kept under `key`, if it is still there."""

    async def keep_vector(self, key: str, value: bytes) -> None:
        """Keep the bytes for a while."""


class Embedder(ABC):
    """Turns text into unit vectors, off the event loop.

    All of its fields are known once it is open.
    """

    name: str
    engine: str = "custom"
    """What computes the vectors: onnxruntime, openvino, torch, or where they are asked for."""

    dimension: int
    max_tokens: int | None
    """Tokens that the model reads of one text; what follows them does not change the vector."""

    truncated_texts: int = 0
    """Texts to be found that had more than `MOST_WINDOWS`, so that parts of them are in none."""

    def share_queries(self, vectors: SharedVectors) -> None:  # noqa: B027
        """Also look for the vectors of queries there, and keep them there; if it keeps any."""

    def facts(self, *, is_open: bool) -> dict[str, Any]:
        """Figures for `/health`; before it is open only its name is known."""
        if not is_open:
            return {"model": self.name}
        known = {
            "model": self.name,
            "engine": self.engine,
            "dimension": self.dimension,
            "max_tokens": self.max_tokens,
        }
        return known | ({"truncated_texts": self.truncated_texts} if self.truncated_texts else {})

    @abstractmethod
    async def open(self) -> None:
        """Load the model; twice is harmless. Raises `ConfigurationError`."""

    @abstractmethod
    async def close(self) -> None:
        """Release the model."""

    @abstractmethod
    async def embed_query(self, text: str) -> Vector:
        """The vector of a question: float32, shape (dimension,), length 1."""

    @abstractmethod
    async def embed(self, texts: Sequence[str]) -> Vector:
        """The vectors of texts to be found: float32, shape (len(texts), dimension), length 1."""

    async def windows(self, text: str, prefix: str = "") -> Windows:
        """The text as pieces that the model reads whole, one or more; they overlap.

        Every character is in at least one, unless they are `truncated`. A text that the model reads
        whole is the only piece. Where the text starts with `prefix`, a name for example, every
        piece does; a prefix that fills a quarter of a window stays where it stands.
        """
        return Windows([text])

    def _note(self, text: str, windows: Windows) -> None:
        """Count the text, and tell whoever asked, where it is truncated."""
        if windows.truncated:
            self.truncated_texts += 1
            noted = _truncated.get()
            if noted is not None:
                noted.add(text)

    async def embed_texts(self, texts: Sequence[tuple[str, str]]) -> list[Vector]:
        """The vectors of texts to be found, each with its prefix: of each those of its windows.

        Float32, shape (windows, dimension) each.
        """
        windows = [await self.windows(text, prefix) for text, prefix in texts]
        vectors = await self.embed([one for own in windows for one in own])
        return np.split(vectors, np.cumsum([len(own) for own in windows])[:-1]) if texts else []

    async def embed_question(self, text: str) -> Vector:
        """The vectors of a question's windows: float32, shape (windows, dimension)."""
        return await self._embed_queries(await self.windows(text))

    async def _embed_queries(self, texts: Sequence[str]) -> Vector:
        """`embed_query` of each, at once."""
        if len(texts) == 1:
            return (await self.embed_query(texts[0]))[np.newaxis]
        return np.stack(await asyncio.gather(*(self.embed_query(text) for text in texts)))
