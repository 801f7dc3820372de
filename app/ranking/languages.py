"""What a language adds to words: their stems, and the words that say nothing in a query."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock

import Stemmer

from app.ranking.normal import folded, normal

LANGUAGES = frozenset({"simple", *Stemmer.algorithms()})
"""`simple` has neither stems nor stop words."""

_LISTS = Path(__file__).parent / "stop_words"
_LONGEST = 64
"""A word of more characters is none that has a stem."""
_CLITICS = {"english": frozenset({"d", "ll", "m", "re", "s", "t", "ve"})}
"""What follows an apostrophe and says nothing: we'll, I've."""


@dataclass(frozen=True, slots=True)
class Language:
    stem: Callable[[str], str]
    """Of a folded word of letters."""

    stop_words: frozenset[str]
    """Folded."""

    clitics: frozenset[str] = frozenset()
    """What says nothing after an apostrophe."""


@lru_cache(maxsize=len(LANGUAGES))
def language(name: str) -> Language:
    """The language called so in `LANGUAGES`; raises `ValueError` for another name."""
    if name not in LANGUAGES:
        raise ValueError(f"{name!r} is no language: one of {', '.join(sorted(LANGUAGES))}")
    if name == "simple":
        return Language(str, frozenset())
    return Language(_stem(name), _stop_words(name), _CLITICS.get(name, frozenset()))


def _stem(name: str) -> Callable[[str], str]:
    stemmer, lock = Stemmer.Stemmer(name, 0), Lock()

    def stem(word: str) -> str:
        if len(word) > _LONGEST:
            return word
        with lock:  # a stemmer has one buffer
            return str(stemmer.stemWord(word))

    return stem


def _stop_words(name: str) -> frozenset[str]:
    path = _LISTS / f"{name}.txt"
    if not path.exists():
        return frozenset()
    return frozenset(folded(normal(word)) for word in path.read_text("utf-8").split())
