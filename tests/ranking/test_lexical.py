"""What words, rare and common, here and in the turns around, are worth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.lexical import Turns, idf, lexical

MANY = 1_000
"""Memories that are searched, so that a word of a few of them is not common."""


def turns(
    words: list[int], conversation: list[int] | None = None, asks: list[int] | None = None
) -> Turns:
    """One conversation of statements, unless told otherwise; `words` are bit masks."""
    return Turns(
        words=np.array(words, np.uint64),
        conversation=np.array(conversation or [7] * len(words), np.int64),
        asks=np.array(asks or [0] * len(words), np.bool_),
    )


@pytest.mark.parametrize(
    ("n", "df", "weight"),
    [(10, 2, 1.4816045), (10, 10, 0.0465200), (10, 0, 3.0910425), (6_000, 1, 8.2942163)],
)
def test_a_words_weight_is_the_idf_of_bm25(n: int, df: float, weight: float) -> None:
    assert idf(n, df) == pytest.approx(weight, abs=1e-7)


def test_the_evidence_is_the_share_of_the_words_each_by_its_idf() -> None:
    found = lexical(turns([0b11, 0b01, 0b10, 0b00]), 10, {0: 2, 1: 6}, window=False)
    rare, frequent = 1.4816045, 0.5260931  # ln(1 + 8.5 / 2.5), ln(1 + 4.5 / 6.5)
    share = rare / (rare + frequent)
    assert found == pytest.approx([1, share, 1 - share, 0], abs=1e-6)


def test_a_word_that_no_memory_has_lowers_the_share_of_those_that_do() -> None:
    found = lexical(turns([1]), 10, {0: 1, 1: 0}, window=False)
    assert found == pytest.approx([idf(10, 1) / (idf(10, 1) + idf(10, 0))])


def test_words_that_do_not_count_are_no_evidence() -> None:
    assert lexical(turns([0b11, 0b10]), 10, {1: 1}, window=False).tolist() == [1, 1]
    assert lexical(turns([0b11, 0b10]), 10, {}, window=True).tolist() == [0, 0]


def test_the_last_bit_is_a_word_as_any_other() -> None:
    assert lexical(turns([1 << 59, 1 << 58]), 10, {59: 1}, window=False).tolist() == [1, 0]


def test_the_two_turns_on_either_side_of_the_words_get_a_part() -> None:
    found = lexical(turns([0, 0, 0, 1, 0, 0, 0]), MANY, {0: 1}, window=True)
    assert found == pytest.approx([0, 0.3, 0.5, 1, 0.7, 0.5, 0])


def test_the_turn_after_a_question_gets_more_and_no_other_does() -> None:
    asked = [0, 0, 0, 1, 0, 0, 0]
    found = lexical(turns([0, 0, 0, 1, 0, 0, 0], asks=asked), MANY, {0: 1}, window=True)
    assert found == pytest.approx([0, 0.3, 0.5, 1, 0.9, 0.5, 0])
    others = [1, 1, 1, 0, 1, 1, 1]
    found = lexical(turns([0, 0, 0, 1, 0, 0, 0], asks=others), MANY, {0: 1}, window=True)
    assert found == pytest.approx([0, 0.3, 0.5, 1, 0.7, 0.5, 0])


def test_the_best_neighbour_counts_and_not_their_sum() -> None:
    found = lexical(turns([1, 1, 0, 1, 1]), MANY, {0: 4}, window=True)
    assert found == pytest.approx([1, 1, 0.7, 1, 1])
    found = lexical(turns([1, 0, 1]), MANY, {0: 2}, window=True)
    assert found == pytest.approx([1, 0.7, 1])


def test_different_words_of_different_neighbours_add_up() -> None:
    found = lexical(turns([0b01, 0b00, 0b10]), MANY, {0: 1, 1: 1}, window=True)
    assert found == pytest.approx([(1 + 0.3) / 2, (0.7 + 0.5) / 2, (0.5 + 1) / 2])


def test_a_neighbour_in_another_conversation_gives_nothing() -> None:
    found = lexical(turns([0, 0, 1, 0, 0], [3, 3, 4, 5, 5]), MANY, {0: 1}, window=True)
    assert found.tolist() == [0, 0, 1, 0, 0]
    found = lexical(turns([1, 0, 0], [3, 4, 3]), MANY, {0: 1}, window=True)
    assert found.tolist() == [1, 0, 0.5]


def test_memories_without_a_conversation_are_no_neighbours() -> None:
    found = lexical(turns([0, 0, 1, 0, 0], [0] * 5), MANY, {0: 1}, window=True)
    assert found.tolist() == [0, 0, 1, 0, 0]


def test_without_the_window_only_the_own_words_count() -> None:
    found = lexical(turns([0, 0, 1, 0, 0]), MANY, {0: 1}, window=False)
    assert found.tolist() == [0, 0, 1, 0, 0]


def test_a_word_of_more_than_a_fifth_says_nothing_about_neighbours() -> None:
    words = turns([0, 1, 0])
    assert lexical(words, 100, {0: 20}, window=True) == pytest.approx([0.5, 1, 0.7])
    assert lexical(words, 100, {0: 21}, window=True).tolist() == [0, 1, 0]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_fewer_turns_than_the_window_are_fine(rows: int) -> None:
    assert lexical(turns([1] * rows), MANY, {0: 1}, window=True).tolist() == [1] * rows


row = st.tuples(st.integers(0, 15), st.integers(-1, 1), st.booleans())


@given(st.lists(row, max_size=12), st.booleans())
def test_the_evidence_is_between_0_and_1_and_the_window_takes_none_away(
    rows: list[tuple[int, int, bool]], asks: bool
) -> None:
    words, conversation, questions = ([r[n] for r in rows] for n in range(3))
    given_turns = turns(words, conversation, [asks and q for q in questions])
    df = {term: float(given_turns.has([term]).sum()) for term in range(4)}
    alone = lexical(given_turns, max(1, len(rows)), df, window=False)
    near = lexical(given_turns, max(1, len(rows)), df, window=True)
    assert np.all((alone >= 0) & (alone <= near + 1e-12) & (near <= 1 + 1e-12))
    assert np.all(near[np.array(words, int) == 15] >= 1 - 1e-12)
