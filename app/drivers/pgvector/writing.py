"""Writing memories: what is embedded, and the one statement that keeps them."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
from pgvector import Vector as PgVector

from app.core.memory.checks import dump_json
from app.core.memory.records import Memory
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.turns import Turns
from app.embedding import Embedder
from app.pieces import in_pieces
from app.ranking.dates import occurred_at
from app.ranking.form import asks
from app.ranking.runs import parsable
from app.ranking.speakers import said, speaker_of

There: TypeAlias = Mapping[tuple[str, UUID], asyncpg.Record]
"""The rows of the database, by user and id."""


class Writing:
    """Keeps memories that are checked already, and come in the order of their time.

    In that order, two writers that change several of the same memories never deadlock.
    """

    def __init__(
        self,
        connections: Connections,
        embedder: Embedder,
        *,
        context: bool,
        wrote: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`wrote` is told how many rows each statement has written."""
        self._connections = connections
        self._wrote = wrote
        self._embedder = embedder
        self._turns = Turns(connections) if context else None

    async def store(self, memories: Sequence[Memory]) -> None:
        """Insert new ones, all or none."""
        await self._write(sql.STORE, await self._columns(memories, {}))

    async def merge(self, memories: Sequence[Memory]) -> None:
        """Keep those that are not there, or only in an older version. No id comes twice."""
        there = await self._there(memories)
        wanted = [memory for memory in memories if not _is_kept(memory, there)]
        if wanted:
            await self._write(sql.MERGE, await self._columns(wanted, there))

    async def replace(self, memory: Memory, over: datetime) -> bool:
        """Whether it put the memory in the place of its version `over`."""
        there = await self._there([memory])
        found = there.get(_key(memory))
        if found is None or found["updated_at"] != over:
            return False
        columns = await self._columns([memory], there)
        return await self._write(sql.REPLACE, [*(value for (value,) in columns), over]) > 0

    async def _write(self, statement: str, arguments: Sequence[Any]) -> int:
        rows = await self._connections.change(statement, *arguments, with_language=True)
        self._wrote(rows)
        return rows

    async def _there(self, memories: Sequence[Memory]) -> There:
        """What is kept under the memories' ids, with the vectors of what is older than they are."""
        users, ids, versions = zip(
            *((memory.user_id, memory.memory_id, memory.updated_at) for memory in memories),
            strict=True,
        )
        rows = await self._connections.fetch(sql.THERE, users, ids, versions)
        return {(row["user_id"], row["memory_id"]): row for row in rows}

    async def _columns(self, memories: Sequence[Memory], there: There) -> list[tuple[Any, ...]]:
        """The arguments of the statement that keeps the memories: a column's values each."""
        texts = await in_pieces(lambda memory: said(memory.content, memory.metadata), memories)
        vectors, contexts = await self._vectors(memories, texts, there)

        def row(place: int) -> tuple[Any, ...]:
            memory = memories[place]
            text = parsable(memory.content)
            return (
                memory.memory_id,
                memory.user_id,
                memory.conversation_id,
                memory.content,
                dump_json(memory.tags),
                dump_json(memory.metadata),
                memory.created_at,
                memory.updated_at,
                vectors[place],
                contexts.get(place),
                speaker_of(memory.content, memory.metadata),
                occurred_at(memory.metadata, memory.created_at),
                asks(memory.content),
                text if text != memory.content else None,
            )

        rows = await in_pieces(row, range(len(memories)))
        return [*zip(*rows, strict=True)]

    async def _vectors(
        self, memories: Sequence[Memory], texts: Sequence[str], there: There
    ) -> tuple[dict[int, PgVector], dict[int, PgVector]]:
        """The vectors by place, and those in context of the memories that have one.

        A text that has not changed keeps the vector of its row.
        """
        vectors: dict[int, PgVector] = {}
        contexts: dict[int, PgVector] = {}
        moved: list[int] = []
        for place, (memory, text) in enumerate(zip(memories, texts, strict=True)):
            row = there.get(_key(memory)) if there else None
            if row is None or row["embedding"] is None or _text(row) != text:
                moved.append(place)
                continue
            vectors[place] = row["embedding"]
            if _turn(row) != (memory.conversation_id, memory.created_at):
                moved.append(place)
            elif row["context"] is not None:
                contexts[place] = row["context"]
        changed = [place for place in moved if place not in vectors]
        in_context = await self._turns.before(memories, texts, moved) if self._turns else {}
        wanted = [*(texts[place] for place in changed), *in_context.values()]
        if wanted:
            made = [PgVector(vector) for vector in await self._embedder.embed(wanted)]
            vectors |= zip(changed, made[: len(changed)], strict=True)
            contexts |= zip(in_context, made[len(changed) :], strict=True)
        return vectors, contexts


def _key(memory: Memory) -> tuple[str, UUID]:
    return memory.user_id, UUID(memory.memory_id)


def _is_kept(memory: Memory, there: There) -> bool:
    row = there.get(_key(memory))
    return row is not None and row["updated_at"] >= memory.updated_at


def _text(row: asyncpg.Record) -> str:
    """What a row's vector was made of."""
    return said(row["content"], {"speaker": row["speaker"]})


def _turn(row: asyncpg.Record) -> tuple[str | None, datetime]:
    """Where in which conversation a row is."""
    return row["conversation_id"], row["created_at"]
