"""Turns of a conversation: a memory's vector in context is made with those before it."""

from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg
from pydantic_core import from_json

from app.core.memory.cursor import Cursor
from app.core.memory.records import Memory
from app.drivers.pgvector.sql import memories as sql
from app.ranking.speakers import said

_BEFORE = 2
"""Turns of the conversation that a vector in context is made with, before the turn itself."""

_TAIL = 200
"""Characters of such a turn, its last: the turn itself must not be what the model cuts off."""

Fetch: TypeAlias = Callable[..., Awaitable[Sequence[asyncpg.Record]]]
"""Gives the rows of a statement, which comes with its arguments."""

Turn: TypeAlias = tuple[Cursor, str]
"""Its place in the conversation, and what was said."""


class Turns:
    """Looks up what was said before and has not expired."""

    def __init__(self, fetch: Fetch, now: Callable[[], datetime]) -> None:
        self._now = now
        self._fetch = fetch

    async def before(
        self, memories: Sequence[Memory], texts: Sequence[str], places: Iterable[int]
    ) -> dict[int, str]:
        """By place, the text of a memory with those of the turns before it in front.

        Only for those of `places` that have such turns. The memories are about to be written
        together, in the order of their time: a turn that is among them counts as it will be.
        """
        wanted = [n for n in places if memories[n].conversation_id is not None]
        if not wanted:
            return {}
        kept = await self._kept(memories, wanted)
        own: dict[tuple[str, str | None], deque[Turn]] = defaultdict(lambda: deque(maxlen=_BEFORE))
        found = {}
        for n, memory in enumerate(memories):
            earlier = own[memory.user_id, memory.conversation_id]
            if n in kept:
                last = sorted([*kept[n], *earlier])[-_BEFORE:]
                if last:
                    found[n] = "\n".join((*(text[-_TAIL:] for _, text in last), texts[n]))
            earlier.append((Cursor.after(memory), texts[n]))
        return found

    async def _kept(self, memories: Sequence[Memory], wanted: list[int]) -> dict[int, list[Turn]]:
        """The last turns before each, but for those that are about to be written."""
        users, conversations, times, ids = zip(
            *(
                (m.user_id, m.conversation_id, *Cursor.after(m))
                for m in map(memories.__getitem__, wanted)
            ),
            strict=True,
        )
        rows = await self._fetch(
            sql.SAID_BEFORE, users, conversations, times, ids, _BEFORE, self._now()
        )
        written = {(memory.user_id, UUID(memory.memory_id)) for memory in memories}
        kept: dict[int, list[Turn]] = {n: [] for n in wanted}
        for row in rows:
            if (row["user_id"], row["memory_id"]) not in written:
                kept[wanted[row["turn"] - 1]].append(
                    (Cursor(row["occurred_at"], row["memory_id"]), said_in(row))
                )
        return kept


def said_in(row: asyncpg.Record) -> str:
    """What the vector of a row, of its content and its metadata, was made of."""
    return said(row["content"], from_json(row["metadata"]))
