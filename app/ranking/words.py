"""Lexical search where a backend has none: the words that a text shares with a query."""

import re


def words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))


def share(query: frozenset[str], text: str) -> float:
    """The share of the query's words that the text has, 0..1."""
    return len(query & words(text)) / len(query) if query else 0.0
