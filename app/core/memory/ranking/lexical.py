"""Lexical evidence: which of the query's words a memory and its neighbours have.

    idf(t)     = ln(1 + (n - df(t) + 0.5) / (df(t) + 0.5))
    lexical(i) = sum_t idf(t) * weight(t, i) / sum_t idf(t)

n memories are searched, df(t) of them have the word t: BM25's idf, with neither saturation nor a
length norm, which memories as short as a turn do not need. weight is 1 for a word of the memory
itself; what only a neighbour in the same conversation has counts less, by how near it is
(`_NEIGHBOURS`), the greatest of them. A word that more than `_COMMON` of the memories have says
nothing about their neighbours.
"""

from dataclasses import dataclass
from math import log1p

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

    def has(self, term: int) -> Floats:
        """1 for each row that has the word, else 0."""
        return (self.words >> np.uint64(term) & np.uint64(1)).astype(np.float64)


def idf(n: int, df: float) -> float:
    """The weight of a word that `df` of `n` memories have."""
    return log1p((n - df + 0.5) / (df + 0.5))


def lexical(turns: Turns, n: int, df: dict[int, float], *, window: bool) -> Floats:
    """The lexical evidence of each row, 0..1.

    `n` memories were searched; `df` tells how many of them have each word that counts, by its bit.
    """
    total = np.zeros(len(turns.words))
    weights = {term: idf(n, count) for term, count in df.items()}
    for term, weight in weights.items():
        has = turns.has(term)
        total += weight * (_near(has, turns) if window and df[term] <= _COMMON * n else has)
    return total / sum(weights.values()) if weights else total


def _near(has: Floats, turns: Turns) -> Floats:
    """The weight of a word for each row, by the rows that have it."""
    best = has.copy()
    for distance, weight in _NEIGHBOURS.items():
        if distance >= len(has):
            continue
        earlier, later = slice(None, -abs(distance)), slice(abs(distance), None)
        source, target = (earlier, later) if distance > 0 else (later, earlier)
        together = (turns.conversation[source] == turns.conversation[target]) & (
            turns.conversation[source] != 0
        )
        worth = np.where(turns.asks[source], _ASKED, weight) if distance == 1 else weight
        np.maximum(best[target], has[source] * together * worth, out=best[target])
    return best
