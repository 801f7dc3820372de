"""How near two texts are by their vectors, where no backend computes it."""

import numpy as np

from app.embedding import Vector


def similarity(one: Vector, other: Vector) -> float:
    """(1 + cosine) / 2 of unit vectors, to six decimals: rounding errors do not break a tie."""
    return round((1 + float(np.dot(one, other))) / 2, 6)
