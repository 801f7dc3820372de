"""The best of candidates: by evidence and cosines, or by words alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from app.ranking import DECIMALS, Explanation, score
from app.ranking.candidates import Candidates, Rows
from app.ranking.evidence import Evidence
from app.ranking.lexical import lexical
from app.ranking.outlines import sign_columns
from app.ranking.query import Query

EVERY = 1_000
"""Up to so many candidates the cosine of every one is computed."""
NEAREST = 400
"""Of more, those whose cosine is computed; four times as many as are asked for, if that is more."""
OF_MANY = 10_000
"""With more candidates than these, twice as many cosines are computed."""

Floats = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float32]
"""Shape (vectors, dimension), length 1 each."""


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate that answers: its row, its score, 0..1, and why it has that."""

    row: int
    score: float
    explanation: Explanation | None = None


def likeliest(evidence: Evidence, candidates: Candidates, question: Vectors, top_k: int) -> Rows:
    """The candidates to compute the cosine of, ascending: all of a few, else the likeliest.

    `question` has the query's vectors, shape (vectors, dimension). A cosine is estimated by the
    signs: two vectors that differ in h of d of them have about cos(pi h / d) (Goemans and
    Williamson 1995). That of the nearest pair counts.
    """
    n = len(candidates)
    count = max(NEAREST * (1 + (n > OF_MANY)), 4 * top_k)
    if n <= max(EVERY, count):
        return np.arange(n)
    dimension = question.shape[1]
    cosine = np.cos(np.pi * np.arange(dimension + 1) / dimension).astype(np.float32)
    differing = np.minimum.reduce([_differing(candidates, vector) for vector in question])
    points = evidence.points.astype(np.float32) + cosine[differing]
    return np.sort(np.argpartition(-points, count)[:count])


def _differing(candidates: Candidates, vector: Vectors) -> npt.NDArray[np.intp]:
    """In how many dimensions the signs of each candidate's nearest vector differ, shape (n,)."""
    differing = np.zeros(candidates.signs.shape[1], np.uint16)
    for own, column in zip(candidates.signs, sign_columns(vector), strict=True):
        differing += np.bitwise_count(own ^ column)
    if len(differing) != len(candidates):
        _, starts = candidates.vectors_of(np.arange(len(candidates)))
        differing = np.minimum.reduceat(differing, starts)
    return differing.astype(np.intp)


def cosines(candidates: Candidates, rows: Rows, kept: Vectors, question: Vectors) -> Floats:
    """Of each row: the cosine of the nearest of the question's vectors and its own, in `kept`.

    One product a pair: of a product of matrices equal rows may be rounded differently, and then the
    newest of equal texts would not be the first.
    """
    if not len(rows):
        return np.zeros(0)
    vectors, starts = candidates.vectors_of(rows)
    return nearest_cosines(kept[candidates.vector_at[vectors]], starts, question)


def nearest_cosines(vectors: Vectors, starts: Rows, question: Vectors) -> Floats:
    """`cosines` of the texts whose vectors, one or more each, begin at `starts`."""
    found = np.maximum.reduce([np.vecdot(vectors, one) for one in question]).astype(np.float64)
    return found if len(found) == len(starts) else np.maximum.reduceat(found, starts)


def best(
    evidence: Evidence,
    candidates: Candidates,
    rows: Rows,
    cosines: Floats,
    top_k: int,
    *,
    explain: bool = False,
) -> list[Found]:
    """The `top_k` best of `rows`, which have these cosines: best first, ties newest first."""
    points = np.round(cosines + evidence.points[rows], DECIMALS)
    return [
        Found(
            int(rows[n]),
            score(float(points[n]), evidence.possible),
            evidence.explanation(int(rows[n]), float(cosines[n])) if explain else None,
        )
        for n in _first(points, candidates, rows, top_k)
    ]


def best_by_words(query: Query, candidates: Candidates, top_k: int) -> list[Found]:
    """The `top_k` best of those that have a word of the query: best first, ties newest first.

    `score` is the share of the query's words, each by its idf.
    """
    shares = lexical([term for _, term in query.terms()], candidates, window=False)
    rows = np.flatnonzero(shares > 0)
    points = np.round(shares[rows], DECIMALS)
    return [Found(int(rows[n]), float(points[n])) for n in _first(points, candidates, rows, top_k)]


def _first(points: Floats, candidates: Candidates, rows: Rows, top_k: int) -> Sequence[int]:
    """The places of the `top_k` most points, ties newest first; `points` are rounded."""
    places = np.arange(len(points))
    if len(points) > top_k:
        least = np.partition(points, len(points) - top_k)[len(points) - top_k]
        places = np.flatnonzero(points >= least)
    own = rows[places]
    high, low = candidates.ids[own].T
    order = np.lexsort((low, high, candidates.occurred[own], points[places]))[::-1][:top_k]
    found: list[int] = places[order].tolist()
    return found
