"""One long text cut into pieces: all of it, at good places, whatever is in it."""

from itertools import pairwise
from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.memory.cutting import pieces_of


def test_a_short_text_is_one_piece_without_the_white_space_around_it() -> None:
    assert pieces_of("  A kettle.\n", 100, 10) == ["A kettle."]
    assert pieces_of(" \n\t", 100, 10) == []


def test_pieces_end_between_paragraphs_where_they_can() -> None:
    paragraphs = [f"{n}: " + "The kettle is of copper. " * 3 for n in range(9)]
    pieces = pieces_of("\n\n".join(p.strip() for p in paragraphs), 200, 0)
    assert all(piece[0].isdigit() and piece.endswith("copper.") for piece in pieces)


def test_else_between_sentences_and_else_between_words() -> None:
    sentences = " ".join(f"Kettle number {n} is of copper." for n in range(40))
    for piece in pieces_of(sentences, 120, 0):
        assert piece.startswith("Kettle")
        assert piece.endswith("copper.")
    words = " ".join(["kettle"] * 100)
    assert {word for piece in pieces_of(words, 100, 0) for word in piece.split()} == {"kettle"}


def test_a_piece_repeats_the_last_of_the_one_before() -> None:
    text = " ".join(f"Kettle number {n} is of copper." for n in range(60))
    pieces = pieces_of(text, 300, 100)
    for piece, after in pairwise(pieces):
        shared = max(n for n in range(len(after) + 1) if piece.endswith(after[:n].strip()))
        assert 50 <= shared <= 100


def test_no_character_of_a_reader_is_cut() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    for text in (family, "e\u0301", "\U0001f1e9\U0001f1ea"):
        pieces = pieces_of(text * 400, 100, 0)
        assert {piece.replace(text, "") for piece in pieces} == {""}


@given(
    text=st.text(st.sampled_from("ab .\n\u3002\u0301\U0001f1e9\U0001f1ea"), max_size=900),
    size=st.integers(100, 200),
    share=st.integers(0, 50),
)
def test_every_word_is_in_some_piece_and_every_piece_in_the_text(
    text: str, size: int, share: int
) -> None:
    overlap = size * share // 100
    pieces = pieces_of(text, size, overlap)
    assert all(0 < len(piece) <= size for piece in pieces)
    place = 0
    for piece in pieces:
        found = text.find(piece, max(0, place - overlap))
        assert found >= 0
        assert not text[place:found].strip()  # nothing but white space is in no piece
        place = max(place, found + len(piece))
    assert not text[place:].strip()


@pytest.mark.parametrize("unit", ["x", "a ", ". ", "\n \n", "\u3002", "\U0001f1e9", "a\u0301"])
def test_twice_the_text_takes_twice_the_time(unit: str) -> None:
    def seconds(chars: int) -> float:
        began = process_time()
        pieces_of(unit * (chars // len(unit)), 1_000, 500)
        return process_time() - began

    seconds(10_000)
    assert seconds(400_000) < 6 * (seconds(100_000) + 0.02)
