"""Lexical evidence: which of the query's words a memory and its neighbours have.

    idf(t)     = ln(1 + (n - df(t) + 0.5) / (df(t) + 0.5))
    lexical(i) = sum_t idf(t) * weight(t, i) / sum_t idf(t)

n memories are searched, df(t) of them have the word t: BM25's idf, with neither saturation nor a
length norm, which memories as short as a turn do not need. weight is 1 for a word of the memory
itself; what only a neighbour in the same conversation has counts less, by how near it is
(`_NEIGHBOURS`), the greatest of them. A word that more than `_COMMON` of the memories have says
nothing about their neighbours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_NEIGHBOURS = {1: 0.7, 2: 0.5, -1: 0.5, -2: 0.3}
"""Weight of a word of the memory that many turns before; negative: after."""

_ASKED = 0.9
"""Weight of a word of the turn just before, where that turn asks something."""

_COMMON = 0.2

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Turns:
    """Memories, ordered by conversation and time, and which words of the query each has.

    A row is there for every memory with a word, and for its two neighbours on either side.
    """

    words: npt.NDArray[np.uint64]
    """Shape (rows,): bit t is set if the memory has the word t."""

    conversation: npt.NDArray[np.int64]
    """Shape (rows,): the same number for the same conversation; 0: none, and so no neighbours."""

    asks: npt.NDArray[np.bool_]
    """Shape (rows,): whether the memory is a question."""

    def has(self, terms: Sequence[int]) -> Floats:
        """Shape (terms, rows): 1 where the memory has the word, else 0."""
        bits = np.array(terms, np.uint64)[:, np.newaxis]
        return (self.words >> bits & np.uint64(1)).astype(np.float64)


def idf(n: float, df: Floats | float) -> Floats:
    """The weight of a word that `df` of `n` memories have."""
    return np.log1p((n - df + 0.5) / (df + 0.5))


def lexical(turns: Turns, n: float, df: Mapping[int, float], *, window: bool) -> Floats:
    """The lexical evidence of each row, 0..1.

    `n` memories were searched; `df` tells how many of them have each word that counts, by its bit.
    """
    if not df:
        return np.zeros(len(turns.words))
    has, having = turns.has(list(df)), np.array(list(df.values()))
    if window:
        common = (having > _COMMON * n)[:, np.newaxis]
        has = np.where(common, has, _near(has, turns))
    weights = idf(n, having)
    found: Floats = weights @ has / weights.sum()
    return found


def _near(has: Floats, turns: Turns) -> Floats:
    """The weight of each word for each row, by the rows that have it."""
    best = has.copy()
    conversation = turns.conversation
    for distance, weight in _NEIGHBOURS.items():
        if abs(distance) >= has.shape[1]:
            continue
        earlier, later = slice(None, -abs(distance)), slice(abs(distance), None)
        source, target = (earlier, later) if distance > 0 else (later, earlier)
        together = (conversation[source] == conversation[target]) & (conversation[source] != 0)
        worth = together * (
            np.where(turns.asks[source], _ASKED, weight) if distance == 1 else weight
        )
        np.maximum(best[:, target], has[:, source] * worth, out=best[:, target])
    return best
