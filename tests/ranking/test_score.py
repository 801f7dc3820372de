"""How points become a score, and what they are the sum of."""

from math import nextafter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking import DATE, LENGTH, LEXICAL, SPEAKER, STATEMENT, Explanation, score

points = st.floats(-1, 10)
possible = st.floats(0, LEXICAL + DATE + SPEAKER)


def test_points_are_the_sum_of_the_parts() -> None:
    assert Explanation(cosine=0.5).points == 0.5
    parts = Explanation(cosine=0.5, lexical=0.25, date=0.125, speaker=2.0, form=4.0)
    assert parts.points == 6.875


@pytest.mark.parametrize(("cosine", "expected"), [(-1, 0), (0, 0.5), (0.5, 0.75), (1, 1)])
def test_without_evidence_the_score_is_that_of_the_cosine(cosine: float, expected: float) -> None:
    assert score(cosine, 0) == expected


def test_all_evidence_with_the_same_text_is_1() -> None:
    every = LEXICAL + DATE + SPEAKER
    assert score(1 + every, every) == 1
    assert score(1 + LEXICAL, LEXICAL) == 1
    assert score(1, LEXICAL) == pytest.approx(2 / 3.3, abs=1e-6)


def test_the_form_lifts_no_score_above_1() -> None:
    assert score(1 + STATEMENT + LENGTH * 9, 0) == 1
    assert score(nextafter(-1, -2), 0) == 0


@given(points, points, possible)
def test_a_score_is_between_0_and_1_and_rises_with_the_points(
    one: float, other: float, possible: float
) -> None:
    low, high = sorted((one, other))
    assert 0 <= score(low, possible) <= score(high, possible) <= 1


@given(points, possible)
def test_what_a_query_allows_beyond_what_a_memory_has_lowers_its_score(
    points: float, possible: float
) -> None:
    assert score(points, possible) <= score(points, 0)


def test_a_score_has_six_decimals() -> None:
    assert score(1 / 3, 0) == 0.666667
