"""The database as it is read and written: one generation of it, whose vectors are of one model."""

import asyncio
from dataclasses import dataclass
from secrets import token_hex
from time import monotonic
from typing import Any

from app.drivers.redis.errors import Paused
from app.drivers.redis.index import Index
from app.drivers.redis.layout import Names
from app.drivers.redis.server import Command, Script, Server
from app.embedding import Embedder, Model, Vector
from app.errors import DatabaseChanged

_PAUSE_SECONDS = 0.02
_PAUSED_SECONDS = 5.0
"""How long a write waits at most for a switch to another generation."""


@dataclass(frozen=True, slots=True)
class Database:
    """One generation of a namespace, with words of one language.

    Every exchange asks whether that generation is in use still, or still the next one: else it
    raises `DatabaseChanged`, and has changed nothing. So does a server that was emptied, restored
    or replaced.
    """

    server: Server
    names: Names
    index: Index
    embedder: Embedder
    model: Model
    """What the embedder is of, as the database tells it."""
    language: str
    token: str
    """What the database is known by at present."""
    name: str
    """What it is known by for ever."""

    async def ask(self, *commands: Command) -> list[Any]:
        """The answers to commands that read. Raises `DatabaseChanged`.

        Whether it is the generation in use is asked last: so it was while the commands read.
        """
        known = ("HMGET", self.names.meta, "id", "generation", "next")
        *answers, (token, current, following) = await self.server.ask(*commands, known)
        generation = str(self.names.generation).encode()
        if token != self.token.encode() or generation not in (current or b"1", following):
            raise DatabaseChanged(reason="it has another identity")
        return answers

    async def run(self, script: Script, *arguments: str | bytes | int) -> Any:
        """What a script of `scripts.py` answers. Raises `DatabaseChanged`."""
        named = f"{self.token}{token_hex(8)}{self.names.generation}"
        end = monotonic() + _PAUSED_SECONDS
        while True:
            try:
                return await self.server.run(script, self.names.base, named, *arguments)
            except Paused:
                if monotonic() > end:
                    raise
            await asyncio.sleep(_PAUSE_SECONDS)

    async def nearest(self, vector: Vector, clauses: str, count: int) -> list[tuple[bytes, float]]:
        """As `Index.nearest`. Raises `DatabaseChanged` where the index is gone.

        The index of a generation goes before its first key does.
        """
        return await self.index.nearest(vector, clauses, count)
