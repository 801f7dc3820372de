"""Scripts that write no spaces between words: their runs count as overlapping pairs."""

import re
from collections.abc import Sequence
from functools import cache
from operator import add
from typing import NamedTuple

from app.ranking.normal import mark

_LETTERS = (
    "\u0e01-\u0e3a\u0e40-\u0e4e"  # Thai
    "\u0e81-\u0ece\u0edc-\u0edf"  # Lao
    "\u1000-\u103f\u1050-\u108f\u109a-\u109d\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa76\uaa7a-\uaa7f"
    "\u1780-\u17d3\u17d7\u17dc\u17dd"  # Khmer, after Burmese
    "\u1100-\u11ff\ua960-\ua97f\uac00-\ud7a3\ud7b0-\ud7ff"  # Hangul
    "\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3105-\u312f"  # Kana, Bopomofo
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
)
_ANY = f"(?:[{_LETTERS}]|[\U0001aff0-\U0001b16f\U00020000-\U000323af])"
"""One of the letters above, the last of which are Han, or of the rarer Kana and Han."""

_STACKED = "\u17d2\u1039"
"""Khmer's and Burmese's signs that put the next consonant below the one before."""
_MOST_STACKED = 4


def parted(run: str) -> list[str]:
    """The run, parted where a script without spaces begins or ends: those are at odd places."""
    return _patterns().unspaced.split(run)


def characters(run: str) -> Sequence[str]:
    """The run's characters, each with the marks on it and the consonants below it."""
    return run if _patterns().mark.search(run) is None else _patterns().character.findall(run)


def pairs(read: Sequence[str]) -> list[str]:
    """Each character with the one after it."""
    return list(map(add, read, read[1:]))


class _Patterns(NamedTuple):
    unspaced: re.Pattern[str]
    mark: re.Pattern[str]
    character: re.Pattern[str]


@cache
def _patterns() -> _Patterns:
    below = rf"(?:{mark()}*[{_STACKED}]\w){{0,{_MOST_STACKED}}}"
    return _Patterns(
        re.compile(f"({_ANY}(?:{_ANY}|{mark()})*)"),
        re.compile(mark()),
        re.compile(rf"\w{below}{mark()}*|{mark()}+"),
    )
