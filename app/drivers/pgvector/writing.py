"""Storing memories: what is embedded, and the one statement that keeps them."""

from collections import defaultdict, deque
from collections.abc import Sequence
from typing import Any

from pgvector import Vector as PgVector

from app.core.memory.checks import dump_json
from app.core.memory.records import Memory
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.sql import memories as sql
from app.embedding import Embedder
from app.pieces import in_pieces
from app.ranking.dates import occurred_at
from app.ranking.form import asks
from app.ranking.runs import parsable
from app.ranking.speakers import said, speaker_of

_BEFORE = 2
"""Turns of the conversation that a vector in context is made with, before the turn itself."""

_TAIL = 200
"""Characters of such a turn, its last: the turn itself must not be what the model cuts off."""


class Writing:
    """Keeps memories, all or none. They are checked already."""

    def __init__(self, connections: Connections, embedder: Embedder, *, context: bool) -> None:
        self._connections = connections
        self._embedder = embedder
        self._context = context

    async def store(self, memories: Sequence[Memory], *, again: bool = False) -> None:
        """Embed and insert; `memories` are in the order of their time.

        With `again`, those that are there already stay.
        """
        texts = await in_pieces(lambda memory: said(memory.content, memory.metadata), memories)
        in_context = await self._in_context(memories, texts) if self._context else {}
        vectors = await self._embedder.embed([*texts, *in_context.values()])
        contexts = dict(zip(in_context, vectors[len(texts) :], strict=True))

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
                PgVector(vectors[place]),
                PgVector(contexts[place]) if place in contexts else None,
                speaker_of(memory.content, memory.metadata),
                occurred_at(memory.metadata, memory.created_at),
                asks(memory.content),
                text if text != memory.content else None,
            )

        rows = await in_pieces(row, range(len(memories)))
        columns = zip(*rows, strict=True)
        async with self._connections.acquire() as connection:
            statement = sql.IMPORT if again else sql.STORE
            await connection.execute(statement, *columns, self._connections.language)

    async def _in_context(self, memories: Sequence[Memory], texts: list[str]) -> dict[int, str]:
        """The texts after those said before them, of the memories that have any before them."""
        conversations = {(m.user_id, m.conversation_id) for m in memories if m.conversation_id}
        if not conversations:
            return {}
        users, names = zip(*conversations, strict=True)
        rows = await self._connections.fetch(sql.LAST_SAID, users, names, _BEFORE)
        before: dict[tuple[str, str | None], deque[str]] = defaultdict(
            lambda: deque(maxlen=_BEFORE)
        )
        for row in rows:
            text = said(row["content"], {"speaker": row["speaker"]})
            before[row["user_id"], row["conversation_id"]].append(text)
        found = {}
        for n, memory in enumerate(memories):
            if memory.conversation_id is None:
                continue
            earlier = before[memory.user_id, memory.conversation_id]
            if earlier:
                found[n] = "\n".join((*(text[-_TAIL:] for text in earlier), texts[n]))
            earlier.append(texts[n])
        return found
