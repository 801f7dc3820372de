"""What makes a driver join the conformance suite: one case."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr

from app.core.memory.base import BaseMemoryDriver
from app.core.memory.drivers.inmemory import InMemoryDriver
from app.core.memory.drivers.pgvector import PgvectorDriver
from app.embedding import Embedder
from app.settings import DatabaseSettings, Limits
from tests.conftest import NewDatabase


@dataclass(frozen=True)
class Surroundings:
    """What a case may use to make its driver."""

    embedder: Embedder
    new_database: NewDatabase
    limits: Limits


@dataclass(frozen=True)
class Case:
    """A driver's name, and how to make an open one with an empty backend."""

    name: str
    driver: Callable[[Surroundings], AbstractAsyncContextManager[BaseMemoryDriver]]


@asynccontextmanager
async def inmemory(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
    async with InMemoryDriver(around.embedder, around.limits) as driver:
        yield driver


@asynccontextmanager
async def pgvector(around: Surroundings) -> AsyncIterator[BaseMemoryDriver]:
    settings = DatabaseSettings(url=SecretStr(await around.new_database()))
    async with PgvectorDriver(settings, around.embedder, around.limits) as driver:
        yield driver


CASES = [Case("inmemory", inmemory), Case("pgvector", pgvector)]

WAYS: list[dict[str, Any]] = [{}, {"query": "kettle"}, {"query": "kettle", "use_vector": False}]
"""Arguments for the three ways to recall: newest first, by vector, by words."""
