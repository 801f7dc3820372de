"""A recall with a query: evidence while the query is being embedded, then one ranking statement."""

import asyncio
import json
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
import numpy as np
from asyncpg.pgproto.pgproto import UUID

from app import ranking
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import recall as sql
from app.embedding import Embedder, Vector
from app.ranking.dates import dates_named
from app.ranking.lexical import Turns, lexical
from app.ranking.runs import parsable
from app.ranking.speakers import speakers_named
from app.settings import RecallSettings


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a scope's memories before the query has a vector."""

    many: bool = False
    """Whether the scope is known to be too large to look at all of it."""

    memories: Sequence[UUID] = ()
    points: Sequence[float] = ()
    """Lexical points of `memories`."""

    speakers: Sequence[str] = ()
    """The spellings of the one person whom the query names."""

    has_words: bool = False
    """Whether any word of the query counts: none does that is a name, or too common to look up."""


class RankedRecall:
    """Ranks a user's memories for a query; `app/ranking` tells how."""

    def __init__(
        self, connections: Connections, embedder: Embedder, settings: RecallSettings
    ) -> None:
        self._connections = connections
        self._embedder = embedder
        self._parts = settings.parts
        self._context = settings.context

    async def best(
        self, scope: tuple[str, str | None, list[str]], query: str, top_k: int
    ) -> list[tuple[asyncpg.Record, float]]:
        """The `top_k` best rows of (user, conversation, excluded tags), with their scores."""
        kind = sql.Scope(conversation=scope[1] is not None, tags=bool(scope[2]))
        if self._parts & {"lexical", "speaker"}:
            vector, evidence = await _both(
                self._embedder.embed_query(query), self._evidence(kind, scope, query)
            )
        else:
            vector, evidence = await self._embedder.embed_query(query), Evidence()
        dates = dates_named(query) if "date" in self._parts else None
        spoken = ranking.SPEAKER if evidence.speakers else 0.0
        arguments = (
            *scope,
            top_k,
            vector,
            evidence.memories,
            evidence.points,
            *(dates or (None, None)),
            ranking.DATE if dates else 0.0,
            evidence.speakers,
            spoken,
            *((ranking.STATEMENT, ranking.LENGTH) if "form" in self._parts else (0.0, 0.0)),
        )
        async with self._connections.acquire() as connection:
            rows: list[asyncpg.Record] = []
            if not evidence.many:
                rows = await connection.fetch(sql.RANKED[self._context][kind], *arguments)
            if not rows:
                rows = await connection.fetch(sql.RANKED_OF_MANY[self._context][kind], *arguments)
        possible = (
            (ranking.LEXICAL if evidence.has_words else 0.0)
            + (ranking.DATE if dates else 0.0)
            + spoken
        )
        return [(row, ranking.score(row["points"], possible)) for row in rows]

    async def _evidence(
        self, kind: sql.Scope, scope: tuple[str, str | None, list[str]], query: str
    ) -> Evidence:
        arguments = (*scope, parsable(query), self._connections.language)
        async with self._connections.acquire() as connection:
            row = await connection.fetchrow(sql.EVIDENCE[kind], *arguments)
            assert row is not None  # noqa: S101 - an aggregate without groups always has one
            many = row["n"] > sql.EXACT
            if many:
                row = await connection.fetchrow(sql.EVIDENCE_OF_MANY[kind], *arguments)
                assert row is not None  # noqa: S101
        return self._weigh(row, query, many=many)

    def _weigh(self, row: asyncpg.Record, query: str, *, many: bool) -> Evidence:
        """What the words and speakers that `row` tells of are worth."""
        names: dict[str, list[str]] = json.loads(row["speakers"] or "{}")
        speakers = speakers_named(query, names) if "speaker" in self._parts else []
        of_names = {lexeme for lexemes in names.values() for lexeme in lexemes}
        terms = [n for n, lexeme in enumerate(row["terms"] or ()) if lexeme not in of_names]
        if not terms or "lexical" not in self._parts:
            return Evidence(many, speakers=speakers)
        turns = Turns(
            words=np.frombuffer(row["words"] or b"", ">u8").astype(np.uint64),
            conversation=np.frombuffer(row["conversations"] or b"", ">i8").astype(np.int64),
            asks=np.frombuffer(row["asks"] or b"", np.bool_),
        )
        counts = row["df"] if many else dict(zip(terms, turns.has(terms).sum(axis=1), strict=True))
        df = {n: counts[n] for n in terms if not many or counts[n] < sql.HITS}
        searched = row["n"] if many else len(turns.words)
        found = lexical(turns, searched, df, window="window" in self._parts)
        rows, ids = np.flatnonzero(found), row["ids"]
        return Evidence(
            many,
            [UUID(ids[16 * n : 16 * n + 16]) for n in rows.tolist()],
            (ranking.LEXICAL * found[rows]).tolist(),
            speakers,
            has_words=bool(df),
        )


async def _both(
    embedding: Coroutine[Any, Any, Vector], evidence: Coroutine[Any, Any, Evidence]
) -> tuple[Vector, Evidence]:
    """Both results; the first failure ends the other."""
    looking = asyncio.ensure_future(evidence)
    try:
        return await embedding, await looking
    finally:
        if not looking.done():
            looking.cancel()
            await asyncio.wait({looking})
        elif not looking.cancelled():
            looking.exception()


def explanation(row: asyncpg.Record) -> ranking.Explanation:
    """Why a row that `RankedRecall.best` gave is there."""
    return ranking.Explanation(
        cosine=round(row["cosine"], 6),
        lexical=round(row["lexical"], 6),
        date=row["date"],
        speaker=row["said"],
        form=round(row["form"], 6),
    )
