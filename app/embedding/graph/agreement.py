"""How near the vectors of two engines are, on texts that have been trouble."""

from collections.abc import Sequence

import numpy as np

from app.embedding.base import Vector
from app.embedding.engines.base import Engine

AGREEMENT = 0.9999
"""The least cosine at which one engine may stand for another."""

SAMPLES = [
    "",
    " ",
    "kettle",
    "  Leading and trailing spaces,\ttabs\nand\r\nlines.  ",
    "Ada's KETTLE is made of Copper; der Kessel, çelik değil. 銅のやかん 🫖 \u200b",
    "[MASK] <s> </s> [SEP] <mask> ##ing @user https://example.org/?a=b#c 1,234.5",
    "x" * 500,
    *("The basil stands on the windowsill. " * n for n in (1, 2, 4, 9, 20, 60)),
    "a " * 5_000,
]


def alone(engine: Engine, texts: Sequence[str], *, query: bool) -> Vector:
    """The vectors, one text in a pass: float32, shape (len(texts), dimension)."""
    return np.array([engine.run([text])[0] for text in engine.prepare(texts, query=query)])


def together(engine: Engine, texts: Sequence[str], *, query: bool) -> Vector:
    """The vectors, padded together in one pass: float32, shape (len(texts), dimension)."""
    return engine.run(engine.prepare(texts, query=query))


def least_cosine(ours: Vector, theirs: Vector) -> float:
    """Of unit vectors, row by row; NaN where any is."""
    return float(np.min((ours * theirs).sum(axis=1)))
