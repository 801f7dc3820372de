"""What the parser of words gets, so that no text takes longer than its length explains."""

import re
from itertools import product

import pytest

from app.ranking.runs import parsable

ALPHABET = "ae1@._-/:%&#<=+'\\~é\u0301漢\ufdfa"
MARK = re.compile(r"[!-/:-@\[-`{-~]")


@pytest.mark.parametrize(
    "text",
    [
        "Ada's kettle (the copper one) whistles; isn't it old? It is -- very!",
        "ada.lovelace@example.co.uk",
        "https://www.example.com/kettles/copper-1/index.html?size=2&lid=no#spout",
        "a/path/that/goes/down/seven/folders/to/main.py",
        "mailto:ada@example.com",
        "成语接龙、京都" * 100,
        "word " * 6_000,
        "x" * 32_768,
        "_" * 16,
        " \n\t ",
        "",
    ],
)
def test_what_people_write_stays_as_it_is(text: str) -> None:
    assert parsable(text) == text


def test_no_run_keeps_many_marks_whatever_is_repeated() -> None:
    patterns = ["".join(two) for two in product(ALPHABET, repeat=2)]
    for pattern in [*patterns, "e@1", "a_b", "a/b.", "<a&b"]:
        text = (pattern * 8_192)[:8_192]
        parsed = parsable(text)
        assert len(parsed) == len(text)
        assert all(
            len(MARK.findall(run)) <= 16 and run.count("@") <= 1 for run in parsed.split()
        ), pattern
        assert re.findall(r"[^\W_]+", parsed) == re.findall(r"[^\W_]+", text)


def test_no_comment_begins() -> None:
    assert parsable("a<!--b <!-- c --> <!- - d") == "a    b      c --> <!- - d"
    assert "<!--" not in parsable("<!<!----")
