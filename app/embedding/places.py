"""Where a text is best cut: between paragraphs, else sentences, else words, else characters."""

import re
from collections.abc import Iterator

import regex

_SENTENCE_ENDS = re.compile(
    r"[.!?\u2026]['\"\u2019\u201d\u00bb)\]]*\s+"
    r"|[\u3002\uff01\uff1f\u0964]['\"\u2019\u201d\u300d\u300f\uff09]*\s*"  # Han, Kana, Devanagari
    r"|\n\s*"
)
_PARAGRAPH_ENDS = re.compile(r"\n[^\S\n]*\n\s*")
_WORD_ENDS = re.compile(r"\s+")
_CHARACTERS = regex.compile(r"\X")
_LOOK_BACK = 256
"""A character as a reader sees it that has more code points may be cut."""
_FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))


def paragraph_end(text: str, after: int, until: int) -> int | None:
    """The last place in `after` < place <= `until` that follows an empty line; None without one."""
    return _last(_PARAGRAPH_ENDS, text, after, until)


def sentence_end(text: str, after: int, until: int) -> int | None:
    """The last place in `after` < place <= `until` where a sentence is over; None without one."""
    return _last(_SENTENCE_ENDS, text, after, until)


def word_end(text: str, after: int, until: int) -> int | None:
    """The last place in `after` < place <= `until` that follows white space; None without one."""
    return _last(_WORD_ENDS, text, after, until)


def first_word_end(text: str, after: int, until: int) -> int | None:
    """The first place in `after` < place <= `until` that follows white space; None without one."""
    return next(_ends(_WORD_ENDS, text, after, until), None)


def character_end(text: str, after: int, until: int) -> int | None:
    """The last place in `after` < place <= `until` between two characters as a reader sees them."""
    look_from = max(until - _LOOK_BACK, 0)
    # Flags are pairs of letters: whoever starts in the middle of one sees none.
    look_from -= (look_from - len(text[:look_from].rstrip(_FLAG_LETTERS))) % 2
    # What is no end of a character at `until` shows in what follows.
    near = text[look_from : until + 1]
    places = [look_from + found.end() for found in _CHARACTERS.finditer(near)]
    return max((place for place in places if after < place <= until), default=None)


def _last(pattern: re.Pattern[str], text: str, after: int, until: int) -> int | None:
    return max(_ends(pattern, text, after, until), default=None)


def _ends(pattern: re.Pattern[str], text: str, after: int, until: int) -> Iterator[int]:
    """Where matches end, unless what follows belongs to the same character."""
    for found in pattern.finditer(text, after, until):
        place = found.end()
        if _CHARACTERS.match(text, place - 1, place + 1).end() == place:
            yield place
