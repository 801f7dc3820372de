"""Finding: AutoMem ranks, and what it leaves out is added here."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from app.core.memory.records import Record
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.mapping import Row, Tags
from app.drivers.automem.scope import (
    PAGE,
    Scope,
    dict_of,
    listed,
    read_all,
    read_page,
)
from app.drivers.automem.unembedded import Unembedded
from app.ranking.words import share, words

_RECALL_MAX = 100
"""The most that AutoMem recalls, whatever is asked for."""
_SPARE = 5
_LOOK_UPS = 8
"""Up to so many merged memories are fetched one by one; more of them page by page."""
_AT_ONCE = 8
"""Memories that are fetched side by side, so that other callers get a connection too."""
_QUERY_BYTES = 3_000
"""Of a query in a URL. Servers and proxies refuse request lines from 4,094 bytes on."""
_TAGS_A_CALL = 60
"""Records whose tags, of 46 bytes each, one such URL carries."""

Wanted = Callable[[Record], bool]


class Search:
    """The ways to find a scope's records."""

    def __init__(self, client: AutomemClient, tags: Tags, unembedded: Unembedded) -> None:
        self._client = client
        self._tags = tags
        self._unembedded = unembedded

    async def newest(
        self,
        scope: Scope,
        count: int,
        wanted: Wanted,
        size: int,
        offset: int = 0,
        end: datetime | None = None,
    ) -> list[Row]:
        """The `count` newest that are wanted; AutoMem is asked for `size` of them first.

        Reads pages until it is certain that no newer one follows: AutoMem orders memories of one
        time by its own ids, so that the last time of a page is not complete. It starts at `offset`
        if what is there is newer than `end`, else at 0.
        """
        found: dict[str, Row] = {}
        more, start = True, offset
        while more:
            page = await read_page(self._client, scope, min(size, PAGE), offset)
            first = page.rows[0].record.created_at if page.rows else None
            if 0 < offset == start and (first is None or end is None or first <= end):
                offset = start = 0
                continue
            offset, more, size = offset + page.count, page.more, PAGE
            for row in page.rows:
                if wanted(row.record):
                    found.setdefault(row.record_id, row)
            if scope.legacy_tag is None and page.last is not None:
                edge = page.last.record.created_at
                if sum(row.record.created_at > edge for row in found.values()) >= count:
                    break
        return sorted(found.values(), key=_age, reverse=True)[:count]

    async def by_words(
        self, scope: Scope, query: str, count: int, wanted: Wanted, least: float = 0.0
    ) -> list[Record]:
        """Those that share a word with the query, best first; reads all of the scope.

        `score` is the share of the query's words. With `least` below 0, those without come too.
        """
        asked = words(query)
        found: dict[str, tuple[float, Row]] = {}
        async for rows in read_all(self._client, scope):
            # Long texts take long to split into words: not on the event loop.
            scores = await asyncio.to_thread(_own_scores, asked, query, rows, 1.0)
            for score, row in zip(scores, rows, strict=True):
                if score > least and wanted(row.record):
                    found[row.record_id] = (score, row)
        best = _sorted(found.values())[:count]
        return [replace(row.record, score=score) for score, row in best]

    async def by_meaning(
        self, scope: Scope, query: str, count: int, wanted: Wanted
    ) -> list[Record]:
        """As AutoMem ranks them. `score` is f / (1 + f), where f is AutoMem's `final_score`.

        A record whose text is the query scores 1. One that AutoMem gave no score of its own (it has
        no vector yet, or was merged into another) has that of an equal text, or else half the share
        of the query's words that it has.

        AutoMem's vector store may still have what its graph has no more: whatever is returned was
        read from the graph.
        """
        text = query.strip()
        if len(text) < 3:
            # AutoMem would answer with what is important, whatever the query says.
            return await self.by_words(scope, query, count, wanted, least=-1.0)
        ranked = Ranked(query)
        hidden = await self._ask(scope, text, count, wanted, ranked)
        if len(ranked.rows) >= count:
            await self._confirm(scope, count, wanted, ranked)
        worst = ranked.threshold(count)
        known = {row.automem_id for _, row in ranked.rows.values()}
        merged = {one for score, ids in hidden if score >= worst for one in ids} - known
        left_out = {key for key in self._unembedded.of_scope(scope.tag) if key not in ranked.rows}
        if len(ranked.rows) < count:
            async for rows in read_all(self._client, scope):
                own = [row for row in rows if wanted(row.record)]
                await asyncio.to_thread(ranked.add, own)
        elif left_out or len(merged) > _LOOK_UPS:
            async for rows in read_all(self._client, scope):
                chosen = [r for r in rows if r.record_id in left_out or r.automem_id in merged]
                left_out -= {row.record_id for row in chosen}
                merged -= {row.automem_id for row in chosen}
                own = [row for row in chosen if wanted(row.record)]
                await asyncio.to_thread(ranked.add, own)
                if not left_out and not merged:
                    break
        else:
            rows = await self._get(scope, merged)
            ranked.add(row for row in rows if wanted(row.record))
        await self._confirm(scope, count, wanted, ranked)
        return ranked.best(count)

    async def _ask(
        self, scope: Scope, text: str, count: int, wanted: Wanted, ranked: "Ranked"
    ) -> list[tuple[float, set[str]]]:
        """One recall; for each result its score, and AutoMem's ids of what was merged into it."""
        limit = min(count + _SPARE, _RECALL_MAX) if wanted is everything else _RECALL_MAX
        answer = await self._client.get("/recall", [*_recall(text, limit), *scope.tags])
        merged: list[tuple[float, set[str]]] = []
        for result in map(dict_of, listed(answer, "results")):
            row = scope.read(result.get("memory"), result.get("id"))
            hidden = result.get("deduped_from")
            ids = {str(one) for one in hidden} if isinstance(hidden, list) else set()
            score = _score(result.get("final_score"))
            # What is merged into a record that is not wanted may be wanted.
            merged.append((score, ids - {row.automem_id} if row is not None else ids))
            if row is None:
                continue
            if result.get("match_type") == "vector":
                self._unembedded.remove(row.record_id)
            if wanted(row.record):
                ranked.scored(row, score, from_graph=result.get("source") == "graph")
        return merged

    async def _confirm(self, scope: Scope, count: int, wanted: Wanted, ranked: "Ranked") -> None:
        """Drop from the best `count` what AutoMem's graph does not have."""
        while doubtful := ranked.doubtful(count):
            found = await self._in_graph(scope, doubtful)
            ranked.drop(doubtful)
            ranked.add(row for row in found if wanted(row.record))

    async def _in_graph(self, scope: Scope, rows: Sequence[Row]) -> list[Row]:
        """Those of the rows that AutoMem's graph has, as it has them now."""
        theirs = [row.automem_id for row in rows if row.record_id == row.automem_id]
        ours = [row.record_id for row in rows if row.record_id != row.automem_id]
        found = await self._get(scope, theirs)
        for start in range(0, len(ours), _TAGS_A_CALL):
            tags = [self._tags.record(one) for one in ours[start : start + _TAGS_A_CALL]]
            query: list[tuple[str, str | int]] = [*(("tags", tag) for tag in tags), ("limit", PAGE)]
            answer = await self._client.get("/memory/by-tag", query)
            found += scope.read_all_of(listed(answer, "memories"))
        return found

    async def _get(self, scope: Scope, automem_ids: Iterable[str]) -> list[Row]:
        paths = [f"/memory/{quote(one, safe='')}" for one in automem_ids]
        found: list[Row] = []
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            answers = await asyncio.gather(
                *map(self._client.get_if_there, some), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            found += scope.read_all_of(dict_of(answer).get("memory") for answer in answers)
        return found


class Ranked:
    """Rows with scores, best first, ties newest first."""

    def __init__(self, query: str) -> None:
        self.rows: dict[str, tuple[float, Row]] = {}
        self._query = query
        self._words = words(query)
        self._scores: dict[str, float] = {}
        """What AutoMem gave, also to rows that are not there any more."""
        self._in_graph: set[str] = set()

    def scored(self, row: Row, score: float, *, from_graph: bool) -> None:
        """Take AutoMem's score."""
        if row.record.content.strip() == self._query.strip():
            score = 1.0
        if row.record_id not in self.rows:
            self._scores[row.record_id] = score
            self.rows[row.record_id] = (score, row)
        if from_graph:
            self._in_graph.add(row.record_id)

    def add(self, rows: Iterable[Row]) -> None:
        """Take rows as the graph has them; those that AutoMem gave a score keep it."""
        for row in rows:
            if row.record_id not in self._in_graph:
                self._in_graph.add(row.record_id)
                score = self._scores.get(row.record_id)
                if score is None:
                    score = _own_score(self._words, self._query, row, 0.5)
                self.rows[row.record_id] = (score, row)

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
            if row.record_id not in self._in_graph
        ]
        return [row for _, row in chosen] if any(n < count for n, _ in chosen) else []

    def threshold(self, count: int) -> float:
        """The score of the last of the best `count`, 0 where there are fewer."""
        scores = sorted((score for score, _ in self.rows.values()), reverse=True)
        return scores[count - 1] if len(scores) >= count else 0.0

    def best(self, count: int) -> list[Record]:
        """The best `count`; equal texts have equal scores."""
        return [replace(row.record, score=score) for score, row in self._ordered()[:count]]

    def _ordered(self) -> list[tuple[float, Row]]:
        of_text: dict[str, float] = {}
        for score, row in self.rows.values():
            text = row.record.content
            of_text[text] = max(score, of_text.get(text, 0.0))
        return _sorted((of_text[row.record.content], row) for _, row in self.rows.values())


def everything(record: Record) -> bool:
    """Want every record."""
    return True


def _recall(text: str, limit: int) -> list[tuple[str, Any]]:
    """The parameters of a recall that only ranks: nothing expanded, nothing dropped."""
    return [
        ("query", _cut(text)),
        ("limit", limit),
        ("tag_match", "exact"),
        # Without a legacy tag there is only one: "any" is "all".
        ("tag_mode", "any"),
        ("sort", "score"),
        ("state_mode", "history"),
        ("adaptive_floor", "false"),
        ("min_score", "0"),
        ("recency_bias", "off"),
        ("expand_relations", "false"),
        ("expand_entities", "false"),
        ("scope_fallback", "false"),
    ]


def _cut(text: str) -> str:
    """As much of the text as a URL can carry."""
    size = 0
    for n, character in enumerate(text):
        size += len(quote(character, safe=""))
        if size > _QUERY_BYTES:
            return text[:n]
    return text


def _score(given: object) -> float:
    """AutoMem's `final_score` f as f / (1 + f), in AutoMem's order and below 1.

    AutoMem's is a weighted sum without an upper bound: cutting it at 1 would lose the order of the
    best. Six decimals, so that rounding errors do not break a tie.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not given > 0:
        return 0.0
    return round(1 - 1 / (1 + given), 6)


def _own_scores(
    asked: frozenset[str], query: str, rows: Iterable[Row], scale: float
) -> list[float]:
    return [_own_score(asked, query, row, scale) for row in rows]


def _own_score(asked: frozenset[str], query: str, row: Row, scale: float) -> float:
    if row.record.content.strip() == query.strip():
        return 1.0
    return round(scale * share(asked, row.record.content), 6)


def _sorted(scored: Iterable[tuple[float, Row]]) -> list[tuple[float, Row]]:
    return sorted(scored, key=lambda pair: (pair[0], *_age(pair[1])), reverse=True)


def _age(row: Row) -> tuple[datetime, str]:
    return row.record.created_at, row.record_id
