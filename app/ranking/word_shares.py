"""Lexical evidence of texts, for a driver whose backend keeps no words."""

from collections.abc import Collection, Iterable

import numpy as np

from app.ranking import DECIMALS
from app.ranking.lexical import Floats, shares
from app.ranking.query import terms_of
from app.ranking.words import words


class WordShares:
    """The shares of a query's words that texts have, as `ranked.best_by_words` scores them."""

    def __init__(self, query: str, language: str) -> None:
        self._language = language
        self._terms = [word for word, _ in terms_of(query, language)]
        self._having: list[list[int]] = [[] for _ in self._terms]
        self._count = 0

    def add(self, texts: Iterable[str]) -> list[bool]:
        """Take more of the texts that are searched; whether each has a word of the query."""
        return [self._add(words(text, self._language).every) for text in texts]

    def _add(self, own: Collection[str]) -> bool:
        found = [
            having for word, having in zip(self._terms, self._having, strict=True) if word in own
        ]
        for having in found:
            having.append(self._count)
        self._count += 1
        return bool(found)

    def all(self) -> Floats:
        """The share of each text, in the order they were added."""
        having = [np.array(texts, np.intp) for texts in self._having]
        return np.round(shares(having, self._count), DECIMALS)
