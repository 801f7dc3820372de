"""Windows by tokenizers of every kind: what they cover, where they are cut, and that they fit."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.embedding import MOST_WINDOWS
from app.embedding.bytes_read import ByteReader
from app.embedding.reader import Costs, Reader
from app.embedding.windows import windows_of
from tests.embedding_readers import (
    PROSE,
    byte_pairs,
    counted,
    covered,
    unigrams,
    word_pieces,
)
from tests.storm import times

CHARACTERS = ["👨‍👩‍👧‍👦", "🇩🇪", "🇹🇷", "e\u0301", "நி", "각", "\r\n", "👍🏽", "क्षि", "1️⃣"]


@given(st.lists(st.sampled_from(CHARACTERS), min_size=400, max_size=900))
@example(["🇩🇪"] * 700)
@example(["e\u0301", *["🇩🇪"] * 700])
@settings(max_examples=times(30, 300), deadline=None)
@pytest.mark.parametrize("room", [97, 160, 1_001])
def test_no_character_as_a_reader_sees_it_is_cut(room: int, characters: list[str]) -> None:
    text = "".join(characters)
    whole = set(regex.findall(r"\X", text))
    windows = windows_of(text, ByteReader(room))
    assert len(windows) > 1
    for window in windows:
        assert set(regex.findall(r"\X", window)) <= whole


@given(st.lists(st.integers(1, 149), min_size=30, max_size=60))
@example([9, 149, 49] * 20)
@settings(max_examples=times(60, 600), deadline=None)
def test_no_word_is_cut_where_another_place_is(lengths: list[int]) -> None:
    words = [chr(ord("a") + n % 26) * length for n, length in enumerate(lengths)]
    for window in windows_of(" ".join(words), ByteReader(400)):
        assert set(window.split()) <= set(words)


READERS: dict[str, Callable[[], Reader]] = {
    "word pieces": cache(lambda: word_pieces(24, "query: ", "passage of text: ")),
    "byte pairs": cache(lambda: byte_pairs(48, "kettle", "query: ")),
    "unigrams": cache(lambda: unigrams(40, "query: ")),
    "counted": cache(lambda: counted(30, "query: ")),
    "bytes": cache(lambda: ByteReader(64)),
}
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=400),
    st.lists(
        st.sampled_from([*PROSE.split(), "\ufdfa", "x" * 90, " " * 30, "銅のやかん", "é", "\n"])
    )
    .map(" ".join)
    .map(lambda text: text[:2_000]),
)


@given(TEXTS)
@example("\ufdfa" * 3)
@example("\ufdfa" * 30)
@example("kettle" * 60)
@example("x" * 300 + " x" * 40)
@settings(max_examples=times(60, 600), deadline=None)
@pytest.mark.parametrize("kind", READERS)
def test_windows_cover_the_text_and_fit_behind_every_prompt(kind: str, text: str) -> None:
    reader = READERS[kind]()
    windows = windows_of(text, reader)
    assert all(
        fits for window, fits in zip(windows, reader.reads(windows), strict=True) if len(window) > 1
    )
    assert windows.truncated or covered(text, windows) == len(text)
    assert len(windows) <= MOST_WINDOWS
    if reader.surely_reads(text):
        assert windows == [text]
        assert reader.reads([text]) == [True]


def test_a_prompt_that_splits_the_first_word_leaves_nothing_unread() -> None:
    reader = word_pieces(24, "x")
    text = "kettle " * reader.room
    assert reader.reads([text]) == [False]
    windows = windows_of(text, reader)
    assert reader.reads(windows) == [True] * len(windows)
    assert covered(text, windows) == len(text)


class Misjudged(Reader):
    """Reads ten characters, and takes a hundred of a text for one."""

    room = sure = 10

    def surely_reads(self, text: str) -> bool:
        return len(text) <= 10

    def costs(self, text: str) -> Costs:
        return np.arange(len(text) + 1) // 100

    def reads(self, texts: Sequence[str]) -> list[bool]:
        return [len(text) <= 10 for text in texts]


@pytest.mark.parametrize(("length", "truncated"), [(1_200, True), (9, False)])
def test_windows_that_have_to_be_cut_again_are_bounded_too(length: int, truncated: bool) -> None:
    text = "".join(chr(0x4E00 + n) for n in range(length))
    windows = windows_of(text, Misjudged())
    assert windows.truncated == truncated
    assert len(windows) <= MOST_WINDOWS
    assert max(map(len, windows)) <= 10
    assert (windows[0][0], windows[-1][-1]) == (text[0], text[-1])


def test_a_model_whose_prompt_is_all_it_reads_has_one_window() -> None:
    reader = word_pieces(4, "a prompt of many words")
    assert windows_of(PROSE * 9, reader) == [PROSE * 9]
