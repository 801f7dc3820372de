"""What is known of candidates before the query has a vector, in points."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from app.ranking import DATE, DECIMALS, LENGTH, LEXICAL, SPEAKER, STATEMENT, Explanation
from app.ranking.candidates import Candidates
from app.ranking.dates import Span, dates_named
from app.ranking.lexical import lexical
from app.ranking.outlines import number_of
from app.ranking.query import Query, Recency, words_of_name
from app.ranking.speakers import one_person, speakers_named

Floats = npt.NDArray[np.float64]

_FIRST_DAY = date(1970, 1, 1)
_MICROSECONDS_A_DAY = 86_400 * 1_000_000


@dataclass(frozen=True, slots=True)
class Evidence:
    """The points of each part for each candidate, shape (n,) each."""

    lexical: Floats
    date: Floats
    speaker: Floats
    form: Floats
    recency: Floats | None
    """None where nobody asked for it."""

    points: Floats
    """Their sum."""

    possible: float
    """The points that the query allows beyond those of the cosine; see `score`."""

    def explanation(self, row: int, cosine: float) -> Explanation:
        """Why a candidate has its points."""
        return Explanation(
            cosine=round(cosine, DECIMALS),
            lexical=round(float(self.lexical[row]), DECIMALS),
            date=float(self.date[row]),
            speaker=float(self.speaker[row]),
            form=round(float(self.form[row]), DECIMALS),
            recency=None if self.recency is None else round(float(self.recency[row]), DECIMALS),
        )


def weigh(query: Query, candidates: Candidates) -> Evidence:
    """The evidence of every candidate but its cosine."""
    n = len(candidates)
    parts = query.parts
    named = speakers_named(query.text, candidates.names.values())
    possible = 0.0
    nothing: Floats = np.zeros(n)
    by_words = by_date = by_speaker = form = nothing
    if "lexical" in parts:
        terms = terms_beside(query, named)
        by_words = np.multiply(LEXICAL, lexical(terms, candidates, window="window" in parts))
        possible += LEXICAL if terms else 0.0
    if "date" in parts:
        days = candidates.days
        spans = _spans(query.text, query.as_of.date(), _years(days))
        by_date = np.where(_within(days, spans), DATE, 0.0)
        possible += DATE if spans else 0.0
    if "speaker" in parts and one_person(named):
        numbers = np.array([number_of(name) for name in named], np.uint64)
        by_speaker = np.where(np.isin(candidates.speaker, numbers), SPEAKER, 0.0)
        possible += SPEAKER
    if "form" in parts:
        form = STATEMENT * ~candidates.asks + LENGTH * np.log1p(candidates.length, dtype=np.float64)
    points = by_words + by_date + by_speaker + form
    recency = None
    if query.recency is not None:
        recency = _recency(query.recency, query.as_of, candidates)
        points = points + recency
        possible += query.recency[1]
    return Evidence(by_words, by_date, by_speaker, form, recency, points, possible)


def terms_beside(query: Query, named: Sequence[str]) -> list[int]:
    """The hashes of the query's words but those of the speakers whom it names."""
    own = {word for name in named for word in words_of_name(name, query.language).every}
    return [number for word, number in query.terms() if word not in own]


@lru_cache(maxsize=1_024)
def _spans(text: str, as_of: date, years: range) -> tuple[Span, ...]:
    return dates_named(text, as_of=as_of, years=years)


def _years(days: npt.NDArray[np.int32]) -> range:
    """The years from the first to the last that the candidates are of."""
    if not len(days):
        return range(0)
    first, last = (_FIRST_DAY + timedelta(days=int(day)) for day in (days.min(), days.max()))
    return range(first.year, last.year + 1)


def _within(days: npt.NDArray[np.int32], spans: Sequence[Span]) -> npt.NDArray[np.bool_]:
    inside = np.zeros(len(days), np.bool_)
    for start, end in spans:
        inside |= (days >= (start - _FIRST_DAY).days) & (days < (end - _FIRST_DAY).days)
    return inside


def _recency(recency: Recency, as_of: datetime, candidates: Candidates) -> Floats:
    half_life, weight = recency
    age = np.maximum(0.0, as_of.timestamp() * 1_000_000 - candidates.occurred)
    found: Floats = weight * 0.5 ** (age / (half_life * _MICROSECONDS_A_DAY))
    return found
