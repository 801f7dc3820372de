"""What a recall by meaning has found so far, best first."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from app.core.memory.records import Record, newest
from app.drivers.automem.mapping import Row
from app.drivers.automem.versions import is_later
from app.ranking.words import share, words

_SPARE = 5


class Ranked:
    """Records with scores, best first, ties newest first; of each the latest version that is known.

    A score is one of a text: equal texts have equal scores, and what AutoMem gave an older version
    with another text does not count.
    """

    def __init__(self, query: str, language: str) -> None:
        self.rows: dict[str, Row] = {}
        self._query = query
        self._language = language
        self._words = words(query, language)
        self._given: dict[str, float] = {}
        self._own: dict[str, float] = {}
        self._certain: set[str] = set()
        """AutoMem's ids of the rows that its graph gave as the latest version of their records."""

    def score(self, row: Row, score: float) -> None:
        """Take AutoMem's score for the row's text."""
        text = row.record.content
        if is_same_text(self._query, row):
            score = 1.0
        self._given[text] = max(score, self._given.get(text, 0.0))

    def suggest(self, rows: Iterable[Row]) -> None:
        """Take rows that may be gone, or older versions."""
        for row in rows:
            there = self.rows.get(row.record_id)
            if there is None or is_later(row, there):
                self.rows[row.record_id] = row
                text = row.record.content
                if text not in self._given and text not in self._own:
                    self._own[text] = self._own_score(row)

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows as the graph has them, each the latest version of its record."""
        for row in rows:
            self._certain.add(row.automem_id)
            self.suggest([row])

    def drop(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.rows.pop(row.record_id, None)

    def doubtful(self, count: int) -> list[Row]:
        """Those to look for in the graph before the best `count` are certain to be there.

        Where there are any, some that follow the best `count` are among them, as a reserve.
        """
        chosen = [
            (n, row)
            for n, (_, row) in enumerate(self._ordered()[: count + _SPARE])
            if row.automem_id not in self._certain
        ]
        return [row for _, row in chosen] if any(n < count for n, _ in chosen) else []

    def threshold(self, count: int) -> float:
        """The score of the last of the best `count`, 0 where there are fewer."""
        scores = sorted(map(self._score_of, self.rows.values()), reverse=True)
        return scores[count - 1] if len(scores) >= count else 0.0

    def best(self, count: int) -> list[Record]:
        return [replace(row.record, score=score) for score, row in self._ordered()[:count]]

    def _ordered(self) -> list[tuple[float, Row]]:
        return best_first((self._score_of(row), row) for row in self.rows.values())

    def _own_score(self, row: Row) -> float:
        """1 for the query's own text, else half the share of its words that the row has."""
        if is_same_text(self._query, row):
            return 1.0
        return round(share(self._words, words(row.record.content, self._language)) / 2, 6)

    def _score_of(self, row: Row) -> float:
        text = row.record.content
        return self._given[text] if text in self._given else self._own[text]


def is_same_text(query: str, row: Row) -> bool:
    """Whether the query is the record's own text."""
    return row.record.content.strip() == query.strip()


def best_first(scored: Iterable[tuple[float, Row]]) -> list[tuple[float, Row]]:
    return sorted(scored, key=lambda pair: (pair[0], *age(pair[1])), reverse=True)


def age(row: Row) -> tuple[datetime, str]:
    return newest(row.record)
