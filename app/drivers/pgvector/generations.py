"""Which generation of vectors a database has, and the embedders that can be asked for it."""

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import asyncpg
import numpy as np
from asyncpg.pool import PoolConnectionProxy

from app.drivers.pgvector.generation import Generation
from app.drivers.pgvector.sql import memories as sql
from app.drivers.pgvector.sql import reembedding
from app.drivers.pgvector.vectors import vector_type
from app.embedding import AGREEMENT, SAMPLE, Embedder, Vector
from app.errors import ConfigurationError
from app.logs import get_logger
from app.ranking.words import VERSION

Asked: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
EmbedderOf: TypeAlias = Callable[[str], Embedder]
"""Gives an embedder of another model, by its name, with the settings of ours; whoever gives it
closes it."""

_log = get_logger(__name__)


class Generations:
    """The generation in use; it changes when a re-embedding has put another in its place.

    A model is known by its vector of one sentence, so the same model by another path or another
    engine is the same, and another model of the same name and dimension is not.
    """

    def __init__(self, embedder: Embedder, embedder_of: EmbedderOf | None = None) -> None:
        self.now = Generation(0, embedder)
        """The one in use."""
        self._configured = embedder
        self._embedder_of = embedder_of
        self._loading = asyncio.Lock()
        self._next: Embedder | None = None
        """That of a re-embedding that goes on."""

    async def open(self) -> None:
        """Load the configured model. Raises `ConfigurationError`."""
        await self._configured.open()
        vector_type(self._configured.dimension)

    async def take(self, connection: Asked) -> None:
        """Let the database's generation be the one in use; one without a model gets ours.

        A database may have another model than the configured one where a re-embedding leads to it,
        or comes from it. Raises `ConfigurationError` for a third.
        """
        row = await connection.fetchrow(sql.MODEL)
        ours = self._configured
        sample = (await ours.embed([SAMPLE]))[0]
        if row is not None and row["name"] is None and row["columns"] == ours.dimension:
            model = (ours.name, ours.dimension, sample, VERSION)
            await connection.execute(sql.REMEMBER_MODEL, *model)
            row = await connection.fetchrow(sql.MODEL)
        if row is None or row["columns"] != row["dimension"]:
            raise self._refusal(row)
        theirs = vector_of(row["sample"])
        if is_same(theirs, sample):
            self._use(Generation(row["generation"], ours, sample))
            return
        if not is_same(theirs, self.now.sample):
            if not await self._is_on_the_way(connection, row, sample):
                raise self._refusal(row)
            embedder = await self._loaded(row["name"], theirs)
        else:
            embedder = self.now.embedder
        self._use(Generation(row["generation"], embedder, theirs))

    async def prepare(self, name: str, sample: Vector) -> None:
        """Load the model that may come next. Raises `ConfigurationError`."""
        if not is_same(sample, self.now.sample):
            await self._loaded(name, sample)

    def forget_next(self) -> None:
        """No re-embedding goes on any more."""
        self._next = None

    async def _is_on_the_way(self, connection: Asked, row: asyncpg.Record, sample: Vector) -> bool:
        """Whether the configured model, or the one in use, is the one before or the next."""
        before = row["previous_sample"]
        if before is not None and (
            is_same(vector_of(before), sample) or is_same(vector_of(before), self.now.sample)
        ):
            return True
        coming = await reembedding.next_model(connection)
        return coming is not None and is_same(vector_of(coming["sample"]), sample)

    async def _loaded(self, name: str, sample: Vector) -> Embedder:
        """An embedder of that model, open, that makes this vector of the sample."""
        async with self._loading:
            embedder = self._next
            if embedder is None or embedder.name != name:
                if self._embedder_of is None:
                    raise ConfigurationError(f"the model {name!r} can't be loaded here")
                embedder = self._embedder_of(name)
            await embedder.open()
            vector_type(embedder.dimension)
            if not is_same((await embedder.embed([SAMPLE]))[0], sample):
                raise ConfigurationError(
                    f"the model {name!r} makes other vectors here than where the records are "
                    "embedded: let the name lead to the same model everywhere"
                )
            self._next = embedder
            return embedder

    def _use(self, found: Generation) -> None:
        before = self.now
        if (found.number, found.embedder) == (before.number, before.embedder):
            return
        self.now = found
        if found.embedder is not self._configured:
            _log.warning(
                "other_model_in_use",
                model=found.embedder.name,
                configured=self._configured.name,
                detail=f"set MEMORY_EMBEDDING_MODEL to {found.embedder.name}",
            )

    def _refusal(self, row: asyncpg.Record | None) -> ConfigurationError:
        ours = self._configured
        name, dimension = (row["name"], row["columns"]) if row is not None else (None, None)
        return ConfigurationError(
            f"MEMORY_EMBEDDING_MODEL: {ours.name!r} ({ours.dimension} dimensions) is not the "
            f"model of this database's vectors ({name or 'another'}, {dimension} dimensions): "
            "set it back, choose another database, or bring the records to another model by "
            "`memory-driver reembed`"
        )


def vector_of(sent: object) -> Vector:
    """A vector of a row, as numpy has it."""
    return np.asarray(sent.to_numpy(), np.float32)  # type: ignore[attr-defined]


def is_same(one: Vector, other: Vector | None) -> bool:
    """Whether two vectors of the sample are one model's."""
    if other is None or one.shape != other.shape:
        return False
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return lengths > 0 and float(one @ other) / lengths >= AGREEMENT
