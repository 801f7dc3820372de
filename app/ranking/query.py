"""A query as ranking sees it: its words, and what the caller wants to count."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from app.ranking.words import Words, hashes, words
from app.settings import PARTS

TERMS = 60
"""Words of a query that count, the longest first: each costs a look at every memory."""


class Recency(NamedTuple):
    """How much it counts that a memory is new."""

    half_life_days: float
    weight: float
    """The points of a memory of this moment; one that is `half_life_days` old has half of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked, and by which evidence beside the cosine (some of `PARTS`)."""

    text: str
    as_of: datetime
    """The moment that "yesterday" is the day before, and that recency counts from."""

    language: str = "english"
    parts: Collection[str] = PARTS
    recency: Recency | None = None

    def terms(self) -> tuple[tuple[str, int], ...]:
        """The words that count and their hashes, no hash twice."""
        return terms_of(self.text, self.language)


@lru_cache(maxsize=1_024)
def terms_of(text: str, language: str) -> tuple[tuple[str, int], ...]:
    """The words of a query that count and their hashes, no hash twice."""
    longest = sorted(words(text, language).asked, key=len, reverse=True)[:TERMS]
    return tuple(
        {int(hashes([word])[0]): (word, int(hashes([word])[0])) for word in longest}.values()
    )


@lru_cache(maxsize=1_024)
def words_of_name(name: str, language: str) -> Words:
    """The words of a speaker's name, which say nothing of what was said."""
    return words(name, language)
