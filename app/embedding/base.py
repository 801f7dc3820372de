"""What drivers ask of an embedder."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Vector: TypeAlias = npt.NDArray[np.float32]


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
    """Tokens of a text that count; what follows them does not change the vector."""

    def share_queries(self, vectors: SharedVectors) -> None:  # noqa: B027
        """Also look for the vectors of queries there, and keep them there; if it keeps any."""

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
