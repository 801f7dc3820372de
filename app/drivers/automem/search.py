"""Finding: AutoMem ranks, and what it leaves out is added here."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

from app.core.memory.records import Record
from app.drivers.automem.client import AutomemClient
from app.drivers.automem.lookup import rows_of
from app.drivers.automem.mapping import Row, Tags
from app.drivers.automem.ranked import Ranked, age, best_first, is_same_text
from app.drivers.automem.scope import Scope, dict_of, listed, read_all
from app.drivers.automem.unembedded import Unembedded
from app.drivers.automem.versions import Latest
from app.ranking.word_shares import WordShares

_RECALL_MAX = 100
"""The most that AutoMem recalls, whatever is asked for."""
_LOOK_UPS = 8
"""Up to so many merged memories are fetched one by one; more of them page by page."""
_AT_ONCE = 8
"""Memories that are fetched side by side, so that other callers get a connection too."""
_QUERY_BYTES = 3_000
"""Of a query in a URL. Servers and proxies refuse request lines from 4,094 bytes on."""

Wanted = Callable[[Record], bool]


class Search:
    """The ways to find a scope's records."""

    def __init__(
        self, client: AutomemClient, tags: Tags, unembedded: Unembedded, language: str
    ) -> None:
        self._client = client
        self._tags = tags
        self._unembedded = unembedded
        self._language = language

    async def newest(
        self,
        scope: Scope,
        count: int,
        wanted: Wanted,
        size: int,
        offset: int = 0,
        end: datetime | None = None,
    ) -> list[Row]:
        """The `count` newest that are wanted; AutoMem is asked for `size` memories first.

        It starts at `offset` if what is there is newer than `end`, else at 0.
        """
        found: list[Row] = []
        async for rows in read_all(self._client, scope, size, offset, end):
            found += [row for row in rows if wanted(row.record)]
            # What other clients stored is not in the order of time.
            if scope.legacy_tag is None and len(found) >= count:
                break
        return sorted(found, key=age, reverse=True)[:count]

    async def by_words(self, scope: Scope, query: str, count: int, wanted: Wanted) -> list[Record]:
        """Those that share a word with the query, best first; reads all of the scope.

        `score` is the share of the query's words, each by how rare it is among those wanted.
        """
        best = best_first(await self._by_words(scope, query, wanted))[:count]
        return [replace(row.record, score=score) for score, row in best]

    async def _by_words(
        self, scope: Scope, query: str, wanted: Wanted, *, without: bool = False
    ) -> list[tuple[float, Row]]:
        """Those that share a word with the query, and `without` those that do not."""
        shares = WordShares(query, self._language)
        found: list[tuple[int, Row]] = []
        searched = 0
        async for rows in read_all(self._client, scope):
            own = [row for row in rows if wanted(row.record)]
            # Long texts take long to split into words: not on the event loop.
            matched = await asyncio.to_thread(shares.add, [row.record.content for row in own])
            found += [
                (place, row)
                for place, (has, row) in enumerate(zip(matched, own, strict=True), searched)
                if has or without
            ]
            searched += len(own)
        scores = shares.all()
        return [(float(scores[place]), row) for place, row in found]

    async def by_meaning(
        self, scope: Scope, query: str, count: int, wanted: Wanted, size: int
    ) -> list[Record]:
        """As AutoMem ranks them. `score` is f / (1 + f), where f is AutoMem's `final_score`.

        AutoMem is asked for its best `size`, 100 at most. Where fewer than `count` of those are
        wanted, all of the scope is read.

        A record whose text is the query scores 1. One that AutoMem gave no score of its own (it has
        no vector yet, or was merged into another) has that of an equal text, or else half the share
        of the query's words that it has.

        AutoMem's vector store may still have what its graph has no more, and what it finds may be
        an older version: of whatever is returned, the graph was asked for the latest.
        """
        text = query.strip()
        if len(text) < 3:
            # AutoMem would answer with what is important, whatever the query says.
            scored = await self._by_words(scope, query, wanted, without=True)
            same = ((1.0 if is_same_text(query, row) else one, row) for one, row in scored)
            return [replace(row.record, score=one) for one, row in best_first(same)[:count]]
        ranked = Ranked(query, self._language)
        hidden = await self._ask(scope, text, min(size, _RECALL_MAX), wanted, ranked)
        if len(ranked.rows) >= count:
            await self._confirm(scope, count, wanted, ranked)
        worst = ranked.threshold(count)
        known = {row.automem_id for row in ranked.rows.values()}
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
            ranked.suggest(row for row in rows if wanted(row.record))
        await self._confirm(scope, count, wanted, ranked)
        return ranked.best(count)

    async def _ask(
        self, scope: Scope, text: str, limit: int, wanted: Wanted, ranked: Ranked
    ) -> list[tuple[float, set[str]]]:
        """One recall; for each result its score, and AutoMem's ids of what was merged into it."""
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
                self._unembedded.remove(row.record)
            ranked.score(row, score)
            if wanted(row.record):
                ranked.suggest([row])
        return merged

    async def _confirm(self, scope: Scope, count: int, wanted: Wanted, ranked: Ranked) -> None:
        """Make the best `count` what AutoMem's graph has, in its latest version."""
        while doubtful := ranked.doubtful(count):
            found = await self._in_graph(scope, doubtful)
            ranked.drop(doubtful)
            ranked.add(row for row in found if wanted(row.record))

    async def _in_graph(self, scope: Scope, rows: Sequence[Row]) -> list[Row]:
        """The records of the rows as AutoMem's graph has them now, if they are of the scope."""
        theirs = [row.automem_id for row in rows if row.record_id == row.automem_id]
        ours = [row.record_id for row in rows if row.record_id != row.automem_id]
        found = await self._get(scope, theirs)
        versions = await rows_of(self._client.get, self._tags, ours)
        return found + [row for row in Latest(versions).take() if scope.has(row)]

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
            memories = [dict_of(dict_of(answer).get("memory")) for answer in answers]
            read = [scope.read(memory, memory.get("id")) for memory in memories]
            found += [row for row in read if row is not None]
        return found


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
