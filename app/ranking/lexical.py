"""Lexical evidence: which of the query's words a memory and its neighbours have.

    idf(t)     = ln(1 + (n - df(t) + 0.5) / (df(t) + 0.5))
    lexical(i) = sum_t idf(t) * weight(t, i) / sum_t idf(t)

n memories are searched, df(t) of them have the word t: BM25's idf, with neither saturation nor a
length norm, which memories as short as a turn do not need. weight is 1 for a word of the memory
itself; what only a neighbour in the same conversation has counts less, by how near it is
(`_NEIGHBOURS`), the greatest of them. A word that more than `_COMMON` of the memories have says
nothing about their neighbours.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from app.ranking.candidates import Candidates, Rows

_NEIGHBOURS = ((-3, 0.2), (3, 0.25), (-2, 0.3), (-1, 0.5), (2, 0.5), (1, 0.7))
"""How many turns after the word, negative: before it; and its weight there, the greatest last."""

_DISTANCES, _WEIGHTS = (
    np.array(column)[:, np.newaxis] for column in zip(*_NEIGHBOURS, strict=True)
)

_ASKED = 0.9
"""Weight of a word of the turn just before, where that turn asks something."""

_COMMON = 0.2

_CELLS = 1_000_000
"""Words times candidates that are weighed at once: 8 MB."""

Floats = npt.NDArray[np.float64]


def idf(n: float, df: Floats) -> Floats:
    """The weight of each word, where `df` of `n` memories have it."""
    return np.log1p((n - df + 0.5) / (df + 0.5))


def shares(having: Sequence[Rows], n: int) -> Floats:
    """The lexical evidence of each of n texts by its own words, shape (n,), 0..1.

    `having` tells which of them have each of the query's words.
    """
    if not n or not having:
        return np.zeros(n)
    weights = idf(n, _counts(having))
    found: Floats = np.minimum(_own(having, weights, n) / weights.sum(), 1.0)
    return found


def lexical(terms: Sequence[int], candidates: Candidates, *, window: bool) -> Floats:
    """The lexical evidence of each candidate for the hashes `terms`, shape (n,), 0..1.

    With `window` the words of neighbours count, too.
    """
    n = len(candidates)
    having = candidates.having(terms)
    if not window or not n or not terms:
        return shares(having, n)
    df = _counts(having)
    weights = idf(n, df)
    found = _own(having, weights, n)
    rare = np.flatnonzero((df > 0) & (df <= _COMMON * n))
    at_once = max(1, _CELLS // n)
    for start in range(0, len(rare), at_once):
        some = rare[start : start + at_once]
        found += weights[some] @ _beside([having[place] for place in some], candidates)
    evidence: Floats = np.minimum(found / weights.sum(), 1.0)
    return evidence


def _counts(having: Sequence[Rows]) -> Floats:
    return np.array([len(rows) for rows in having], np.float64)


def _own(having: Sequence[Rows], weights: Floats, n: int) -> Floats:
    """The weight of the words that each has itself, shape (n,)."""
    own = np.repeat(weights, [len(rows) for rows in having])
    return np.bincount(np.concatenate(having), own, minlength=n).astype(np.float64)


def _beside(having: Sequence[Rows], candidates: Candidates) -> Floats:
    """What neighbours give, shape (words, n), where those rows have each of the words.

    A candidate that has a word itself has nothing from its neighbours for it.
    """
    n = len(candidates)
    conversation = candidates.conversation
    rows = np.concatenate(having).astype(np.intp)
    word = np.repeat(np.arange(len(having)), [len(own) for own in having])
    own, asks = conversation[rows], candidates.asks[rows]
    cell = word * n + rows
    beside = rows + _DISTANCES
    inside = np.minimum(np.maximum(beside, 0), n - 1)
    same = (beside == inside) & (own == conversation[inside]) & (own != 0)
    weights = np.where(asks & (_DISTANCES == 1), _ASKED, _WEIGHTS)
    found = np.zeros(len(having) * n)
    found[(cell + _DISTANCES)[same]] = weights[same]  # each overwrites what counts less
    found[cell] = 0.0
    return found.reshape(len(having), n)
