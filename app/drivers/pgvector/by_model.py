"""What a driver does by vectors: made for one generation, and made anew for the next."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.knowledge import KnowledgeTable
from app.drivers.pgvector.recall import RankedRecall
from app.drivers.pgvector.residents import Residents
from app.drivers.pgvector.turns import Turns
from app.drivers.pgvector.writing import Writing
from app.errors import ModelChanged
from app.settings import RecallSettings

_TRIES = 3
"""How often a verb is tried while the model changes; it changes once in a while."""

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class ByModel:
    """Parts of a driver that all have one generation."""

    generation: Generation
    ranked: RankedRecall
    writing: Writing
    knowledge: KnowledgeTable


class Following:
    """The parts for the generation in use. A verb that meets another one is repeated with that."""

    def __init__(
        self,
        connections: Connections,
        recall: RecallSettings,
        now: Callable[[], datetime],
        wrote: Callable[[int], None],
    ) -> None:
        """`now` is the driver's clock; `wrote` is told how many rows each statement has written."""
        self._connections = connections
        self._recall = recall
        self._now = now
        self._wrote = wrote
        self._left: list[Residents] = []
        """Those of generations before, which may still be asked."""
        self._parts = self._made()

    @property
    def parts(self) -> ByModel:
        """Those of this moment. Whatever is asked after an await may be of other ones."""
        if self._parts.generation is not self._connections.generations.now:
            self._parts.ranked.residents.forget()
            self._left.append(self._parts.ranked.residents)
            self._parts = self._made()
        return self._parts

    async def stop(self) -> None:
        """Keep no user any more."""
        for residents in (*self._left, self._parts.ranked.residents):
            await residents.stop()
        self._left.clear()

    def facts(self) -> dict[str, Any]:
        """Figures for `/health`."""
        return self.parts.ranked.residents.facts()

    async def by(self, verb: Callable[[ByModel], Awaitable[Result]]) -> Result:
        """What the verb gives with the parts; it does nothing where it raises `ModelChanged`."""
        for _ in range(_TRIES - 1):
            parts = self.parts
            try:
                return await verb(parts)
            except ModelChanged:
                await self._connections.follow(parts.generation)
        return await verb(self.parts)

    def _made(self) -> ByModel:
        connections, generation, settings = (
            self._connections,
            self._connections.generations.now,
            self._recall,
        )
        turns = Turns(connections.fetch, self._now) if settings.context else None
        return ByModel(
            generation,
            RankedRecall(connections, generation, settings, self._now),
            Writing(connections, generation, turns, self._now, self._wrote),
            KnowledgeTable(connections, generation, self._now),
        )
