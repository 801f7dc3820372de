"""What words, rare and common, here and in the turns around, are worth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ranking.candidates import Candidates
from app.ranking.lexical import idf, lexical
from app.ranking.outlines import no_candidates

MANY = 1_000
"""Memories that are searched, so that a word of a few of them is not common."""


def turns(
    words: list[int],
    conversation: list[int] | None = None,
    asks: list[int] | None = None,
    searched: int = 0,
) -> Candidates:
    """One conversation of statements, unless told otherwise; `words` are bit masks.

    With memories of no words after them, up to so many as are `searched`.
    """
    own = [(bit, row) for row, mask in enumerate(words) for bit in range(60) if mask >> bit & 1]
    hashes, rows = np.array(sorted(own), np.int32).reshape(-1, 2).T
    n, others = max(len(words), searched), max(0, searched - len(words))
    return replace(
        no_candidates(8),
        occurred=np.arange(n),
        expires=np.zeros(n, np.int64),
        conversation=np.array([*(conversation or [7] * len(words)), *[0] * others], np.uint64),
        asks=np.array([*(asks or [0] * len(words)), *[0] * others], np.bool_),
        words=hashes,
        word_row=rows,
    )


def found_in(
    words: list[int],
    terms: list[int],
    conversation: list[int] | None = None,
    asks: list[int] | None = None,
    *,
    searched: int = MANY,
    window: bool = True,
) -> np.ndarray:
    """The evidence of those that have `words`."""
    candidates = turns(words, conversation, asks, searched)
    return lexical(terms, candidates, window=window)[: len(words)]


@pytest.mark.parametrize(
    ("n", "df", "weight"),
    [(10, 2, 1.4816045), (10, 10, 0.0465200), (10, 0, 3.0910425), (6_000, 1, 8.2942163)],
)
def test_a_words_weight_is_the_idf_of_bm25(n: int, df: float, weight: float) -> None:
    assert idf(n, np.array([df])) == pytest.approx([weight], abs=1e-7)


def test_the_evidence_is_the_share_of_the_words_each_by_its_idf() -> None:
    words = [0b11, 0b01, 0b10, 0b00, *[0b10] * 4]
    found = found_in(words, [0, 1], searched=10, window=False)
    rare, frequent = 1.4816045, 0.5260931  # ln(1 + 8.5 / 2.5), ln(1 + 4.5 / 6.5)
    share = rare / (rare + frequent)
    assert found[:4] == pytest.approx([1, share, 1 - share, 0], abs=1e-6)


def test_a_word_that_no_memory_has_lowers_the_share_of_those_that_do() -> None:
    found = found_in([1], [0, 1], searched=10, window=False)
    some, none = idf(10, np.array([1.0, 0.0]))
    assert found == pytest.approx([some / (some + none)])


def test_words_that_are_not_asked_for_are_no_evidence() -> None:
    assert found_in([0b11, 0b10], [1], window=False).tolist() == [1, 1]
    assert found_in([0b11, 0b10], []).tolist() == [0, 0]


def test_the_three_turns_on_either_side_of_the_words_get_a_part() -> None:
    found = found_in([0, 0, 0, 0, 1, 0, 0, 0, 0], [0])
    assert found == pytest.approx([0, 0.2, 0.3, 0.5, 1, 0.7, 0.5, 0.25, 0])


def test_the_turn_after_a_question_gets_more_and_no_other_does() -> None:
    asked = [0, 0, 0, 1, 0, 0, 0]
    found = found_in([0, 0, 0, 1, 0, 0, 0], [0], asks=asked)
    assert found == pytest.approx([0.2, 0.3, 0.5, 1, 0.9, 0.5, 0.25])
    others = [1, 1, 1, 0, 1, 1, 1]
    found = found_in([0, 0, 0, 1, 0, 0, 0], [0], asks=others)
    assert found == pytest.approx([0.2, 0.3, 0.5, 1, 0.7, 0.5, 0.25])


def test_the_best_neighbour_counts_and_not_their_sum() -> None:
    assert found_in([1, 1, 0, 1, 1], [0]) == pytest.approx([1, 1, 0.7, 1, 1])
    assert found_in([1, 0, 1], [0]) == pytest.approx([1, 0.7, 1])
    assert found_in([0, 1, 1, 0], [0], asks=[0, 1, 0, 0]) == pytest.approx([0.5, 1, 1, 0.7])


def test_different_words_of_different_neighbours_add_up() -> None:
    found = found_in([0b01, 0b00, 0b10], [0, 1])
    assert found == pytest.approx([(1 + 0.3) / 2, (0.7 + 0.5) / 2, (0.5 + 1) / 2])


def test_a_neighbour_in_another_conversation_gives_nothing() -> None:
    assert found_in([0, 0, 1, 0, 0], [0], [3, 3, 4, 5, 5]).tolist() == [0, 0, 1, 0, 0]
    assert found_in([1, 0, 0], [0], [3, 4, 3]).tolist() == [1, 0, 0.5]


def test_memories_without_a_conversation_are_no_neighbours() -> None:
    assert found_in([0, 0, 1, 0, 0], [0], [0] * 5).tolist() == [0, 0, 1, 0, 0]


def test_without_the_window_only_the_own_words_count() -> None:
    assert found_in([0, 0, 1, 0, 0], [0], window=False).tolist() == [0, 0, 1, 0, 0]


def test_a_word_of_more_than_a_fifth_says_nothing_about_neighbours() -> None:
    rest = [1] * 19
    found = found_in([0, 1, 0, *rest], [0], [7, 7, 7, *[0] * 19], searched=100)
    assert found[:3] == pytest.approx([0.5, 1, 0.7])
    found = found_in([0, 1, 0, *rest, 1], [0], [7, 7, 7, *[0] * 20], searched=100)
    assert found[:3].tolist() == [0, 1, 0]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_fewer_turns_than_the_window_are_fine(rows: int) -> None:
    assert found_in([1] * rows, [0], searched=0).tolist() == [1] * rows


def test_many_words_of_many_memories_are_weighed_a_part_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = [1 << n % 7 for n in range(50)]
    whole = found_in(words, [*range(7)])
    monkeypatch.setattr("app.ranking.lexical._CELLS", 2_000)
    assert found_in(words, [*range(7)]) == pytest.approx(whole)


row = st.tuples(st.integers(0, 15), st.integers(0, 2), st.booleans())


@given(st.lists(row, max_size=12), st.booleans())
def test_the_evidence_is_between_0_and_1_and_the_window_takes_none_away(
    rows: list[tuple[int, int, bool]], asks: bool
) -> None:
    rows.sort(key=lambda row: row[1])
    words, conversation, questions = ([r[n] for r in rows] for n in range(3))
    asking = [asks and question for question in questions]
    alone, near = (
        found_in(words, [*range(4)], conversation, asking, searched=0, window=window)
        for window in (False, True)
    )
    assert np.all((alone >= 0) & (alone <= near + 1e-12) & (near <= 1 + 1e-12))
    assert np.all(near[np.array(words, int) == 15] >= 1 - 1e-12)
