"""Which candidates are the best, and in which order."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.ranking import LEXICAL
from app.ranking.candidates import Candidates
from app.ranking.evidence import Evidence
from app.ranking.ranked import best

nearly_alike = st.lists(
    st.integers(0, 40).map(lambda n: 0.5 + (n + 0.3) * 1e-7), min_size=2, max_size=20
)


def newer_and_newer(count: int) -> Candidates:
    """Memories without words, each of which happened after the one before."""
    rows = np.arange(count)
    nothing = np.zeros(count, np.int64)
    return Candidates(
        ids=np.column_stack((rows, rows)).astype(np.uint64),
        occurred=rows.astype(np.int64),
        expires=nothing,
        days=nothing.astype(np.int32),
        conversation=nothing.astype(np.uint64),
        speaker=nothing.astype(np.uint64),
        names={},
        asks=nothing.astype(np.bool_),
        length=nothing.astype(np.int32),
        words=np.empty(0, np.int32),
        word_row=np.empty(0, np.int32),
        signs=np.zeros((1, count), np.uint64),
        vector_row=rows.astype(np.int32),
        vector_at=rows.astype(np.int32),
    )


def without_evidence(count: int, possible: float) -> Evidence:
    """Only the cosines differ."""
    nothing = np.zeros(count)
    return Evidence(nothing, nothing, nothing, nothing, None, nothing, possible)


@given(nearly_alike, st.sampled_from([0.0, LEXICAL]))
def test_scores_fall_in_the_order_of_the_answer_and_ties_are_newest_first(
    cosines: list[float], possible: float
) -> None:
    count = len(cosines)
    candidates, evidence = newer_and_newer(count), without_evidence(count, possible)
    rows = np.arange(count)
    found = best(evidence, candidates, rows, np.array(cosines), count)
    points = [round(cosines[one.row], 6) for one in found]
    order = [(point, one.row) for point, one in zip(points, found, strict=True)]
    assert order == sorted(order, reverse=True)
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
