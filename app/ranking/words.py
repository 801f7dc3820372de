"""From text to words: the same for what is stored and what is asked, on every driver.

A word is what two texts share: the stem of a written word, a part of a compound, a pair of
characters of a script without spaces, an emoji. docs/decisions/0024 tells what counts as one, and
why.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

import numpy as np
import numpy.typing as npt

from app.ranking.compounds import Found, runs, words_of
from app.ranking.languages import LANGUAGES
from app.ranking.languages import language as language_called
from app.ranking.normal import normal
from app.ranking.unspaced import characters, pairs, parted

__all__ = ["LANGUAGES", "VERSION", "Words", "hashes", "share", "words"]

VERSION = 1
"""Of what `words` gives. Words that were kept by another version have to be made anew."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text, as one that is stored and as a query."""

    every: frozenset[str]
    """All that a stored text has: what a query's word is looked for in."""

    asked: tuple[str, ...]
    """Those that it asks for as a query, and that tell how much it says: distinct, in order."""


def words(text: str, language: str = "english") -> Words:
    """The words of `text`, with the stems and stop words of one of `LANGUAGES`.

    A query asks without stop words, unless it has no others: *The Who*, *to be or not to be*.
    Raises `ValueError` for an unknown language. The time grows with the length of the text,
    whatever it is.
    """
    language_called(language)  # a text without words too refuses an unknown one
    every: set[str] = set()
    asked: list[str] = []
    stopped: list[str] = []
    for found in _found(normal(text), language):
        every.update(found.every)
        if found.asked:
            asked.extend(found.asked)
        else:
            stopped.extend(found.every)
    return Words(frozenset(every), tuple(dict.fromkeys(asked or stopped)))


def hashes(words: Iterable[str]) -> npt.NDArray[np.int32]:
    """The words as numbers, distinct and ascending: CRC-32 of their UTF-8, as a signed integer."""
    codes = np.fromiter((crc32(word.encode()) for word in words), np.uint32)
    return np.unique(codes.view(np.int32))


def share(query: Words, text: Words) -> float:
    """The share of the query's words that the text has, 0..1; 0 for a query without words."""
    if not query.asked:
        return 0.0
    return sum(word in text.every for word in query.asked) / len(query.asked)


def _found(text: str, language: str) -> Iterator[Found]:
    for run in runs(text):
        parts = [run] if run.isascii() else parted(run)
        if len(parts) == 1:
            yield words_of(run, language)
            continue
        unspaced = set(parts[1::2])
        for part in dict.fromkeys(parts):
            if part in unspaced:
                yield _in_pairs(part)
            else:
                yield from (words_of(one, language) for one in runs(part))


def _in_pairs(run: str) -> Found:
    """A query of one character asks for it, and of more for pairs alone."""
    read = characters(run)
    both = pairs(read)
    return Found((*read, *both), tuple(both or read))
