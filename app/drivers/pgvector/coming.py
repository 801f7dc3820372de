"""Looks whether another model is to come, and loads it before it does."""

import asyncio
from contextlib import suppress
from typing import Any
from uuid import uuid4

from asyncpg import exceptions as pg

from app.drivers.pgvector.background import Background
from app.drivers.pgvector.checks import Pooled
from app.drivers.pgvector.connections import Connections
from app.drivers.pgvector.generations import vector_of
from app.drivers.pgvector.sql import reembedding as sql
from app.embedding import Vector
from app.errors import MemoryServiceError
from app.logs import get_logger
from app.tasks import end

LOOK_SECONDS = 2.0
"""From one look to the next."""

_log = get_logger(__name__)


class ComingModel(Background):
    """Loads the model of a re-embedding that goes on, and says so in the database.

    The switch waits for the services that have said that they are there, until each has the model.
    """

    failed = "reembedding_not_looked_for"
    every = LOOK_SECONDS

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._id = uuid4()
        self._loading: asyncio.Task[None] | None = None
        self._problem: str | None = None
        self._told: dict[str, Any] = {}

    def facts(self) -> dict[str, Any]:
        """How far a re-embedding is that goes on, for `/health`."""
        if not self._told:
            return {}
        problem = {"problem": self._problem} if self._problem else {}
        return {"reembedding": {**self._told, **problem}}

    async def stop(self) -> None:
        await super().stop()
        loading, self._loading = self._loading, None
        await end(loading)

    async def work(self) -> None:
        async with self._connections.acquire() as connection:
            goes_on = False
            with suppress(pg.UndefinedTableError, pg.InvalidSchemaNameError):  # it went meanwhile
                goes_on = await self._look(connection)
        if self._told and not goes_on:
            loading, self._loading = self._loading, None
            await end(loading)
            self._connections.generations.forget_next()
            self._told = {}

    async def _look(self, connection: Pooled) -> bool:
        """Whether a re-embedding goes on."""
        places = await sql.second_of(connection)
        row = None if places is None else await connection.fetchrow(sql.told(places))
        if places is None or row is None:
            return False
        if self._loading is None or self._told.get("model") != row["name"]:
            await end(self._loading)
            self._problem = "the model is being loaded"
            loading = self._load(row["name"], vector_of(row["sample"]))
            self._loading = asyncio.create_task(loading)
        self._told = {"model": row["name"], "records": row["records"], "done": row["done"]}
        if not self._connections.read_only:
            await connection.execute(sql.heartbeat(places), self._id, self._problem)
        return True

    async def _load(self, name: str, sample: Vector) -> None:
        while True:
            try:
                await self._connections.generations.prepare(name, sample)
                self._problem = None
                return
            except MemoryServiceError as error:
                if self._problem != error.reason:
                    _log.error("coming_model_not_loaded", model=name, reason=error.reason)
                self._problem = error.reason
            await asyncio.sleep(LOOK_SECONDS)
