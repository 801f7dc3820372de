"""The generation in use, for the verbs: where another one comes into use, a verb goes on there."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from app.drivers.redis.database import Database
from app.drivers.redis.knowledge import KnowledgeSearch
from app.drivers.redis.opening import Opening
from app.drivers.redis.recall import RankedRecall
from app.drivers.redis.writing import Writing
from app.errors import DatabaseChanged

_TRIES = 5
"""How often a verb is begun; a generation that begins and one that comes into use cost one each."""

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Generation:
    """A generation, and what reads and writes its vectors: all of it is of one model."""

    database: Database
    ranked: RankedRecall
    knowledge: KnowledgeSearch
    writing: Writing


class Current:
    """Knows the generation in use, once it was opened."""

    def __init__(self, opening: Opening, made: Callable[[Database], Generation]) -> None:
        """`made` gives what reads and writes a database's vectors."""
        self.opening = opening
        self._made = made
        self._there: Generation | None = None
        self._name: str | None = None
        self._opening = asyncio.Lock()

    @property
    def known(self) -> Generation | None:
        """The one in use when it was last asked for; None: it is to be opened."""
        return self._there

    @property
    def identity(self) -> frozenset[str] | None:
        """Which database it is, by whatever way it is reached; None before it was opened."""
        return None if self._name is None else frozenset({f"redis/{self._name}"})

    async def open(self) -> Generation:
        """The generation in use.

        Raises `ConfigurationError`, or `DriverUnavailable` when it may work later.
        """
        async with self._opening:
            if self._there is None:
                self._there = self._made(await self.opening.database())
                self._name = self._there.database.name
            return self._there

    async def close(self) -> None:
        """Disconnect."""
        self._there = self._name = None
        await self.opening.server.close()

    async def do(self, work: Callable[[Generation], Awaitable[Answer]]) -> Answer:
        """What `work` gives in the generation in use.

        Where another one has come into use meanwhile, the work is done again, there: what it asked
        last has changed nothing. Raises `DatabaseChanged` where it is another database.
        """
        for left in reversed(range(_TRIES)):
            there = self._there or await self.open()
            try:
                return await work(there)
            except DatabaseChanged:
                if self._there is there:
                    self._there = None
                if not left or not await self._goes_on(there.database):
                    raise
        raise AssertionError  # the last try returns or raises

    async def _goes_on(self, before: Database) -> bool:
        """Whether it is the same database, where another generation began or came into use."""
        meta = await self.opening.meta()
        if meta is not None and meta.name == before.name:
            return meta.token != before.token
        if self._name == before.name:
            self._name = None
        return False
