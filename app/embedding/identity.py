"""Which model made vectors: known by what it makes of one sentence, whatever it is called."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from app.embedding.base import Embedder, Vector

SAMPLE: Final = "Ada keeps a copper kettle on the windowsill and waters the basil on Sundays."
AGREEMENT: Final = 0.999
"""Least cosine between one model's vectors of the sample, whatever engine computes them."""

_LENGTH_ERROR = 0.02
"""How far the length of a unit vector may be from 1: halves of floats are rounded."""


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A model by its name, which tells nothing, and by its vector of the sample, shape (d,)."""

    name: str
    sample: Vector

    @classmethod
    async def of(cls, embedder: Embedder) -> "Model":
        """The model of an open embedder."""
        return cls(embedder.name, (await embedder.embed([SAMPLE]))[0])

    @property
    def dimension(self) -> int:
        """The numbers of a vector."""
        return len(self.sample)

    def is_same(self, other: "Model") -> bool:
        """Whether the two make the same vectors."""
        return _agree(self, other)

    def may_have_made(self, vectors: Vector) -> bool:
        """Whether they are unit vectors of the model's dimension, shape (windows, dimension)."""
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension or not len(vectors):
            return False
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        return bool(np.all(np.abs(lengths - 1) <= _LENGTH_ERROR))


@lru_cache(maxsize=64)
def _agree(one: Model, other: Model) -> bool:
    """It is asked of every record that is copied."""
    same_size = one.sample.shape == other.sample.shape
    return same_size and float(one.sample @ other.sample) >= AGREEMENT
