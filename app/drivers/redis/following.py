"""Looks for a next generation while a driver is open, loads its model, and says so there."""

import asyncio
import os
import socket
from contextlib import suppress
from secrets import token_hex
from typing import Any

from app.background import Background
from app.drivers.redis.database import Database
from app.drivers.redis.opening import Opening
from app.drivers.redis.services import LOOK_SECONDS, READY, how_far
from app.drivers.redis.switching import LEFT, SEEN
from app.embedding import Embedder, Model
from app.errors import DatabaseChanged, MemoryServiceError
from app.logs import get_logger
from app.tasks import end

_log = get_logger(__name__)


class Following(Background):
    """Makes the driver ready for the next generation before that one comes into use."""

    failed = "next_model_not_looked_for"
    every = LOOK_SECONDS

    def __init__(self, opening: Opening) -> None:
        self._opening = opening
        self._service = ""
        """What the others know it by."""
        self._loading: asyncio.Task[Embedder] | None = None
        self._wanted: Model | None = None
        self._told: str | None = None
        self._said: str | None = None
        """What was said last to the others."""
        self._next: Database | None = None
        """Where something was said last."""

    async def stop(self) -> None:
        """End, and say that the service is gone, where that can be said."""
        await super().stop()
        await self._load(None)
        there, self._next = self._next, None
        if there is not None:
            with suppress(MemoryServiceError):
                await there.run(LEFT, self._service)

    async def facts(self) -> dict[str, Any]:
        """How far the next generation is, for `/health`; nothing where there is none."""
        there, model = self._next, self._wanted
        if there is None or model is None:
            return {}
        try:
            done, missing = await how_far(there)
        except DatabaseChanged:  # it is over: the next look tells
            return {}
        told = {"model": model.name, "records": done + missing, "done": done}
        problem = {} if self._said in (None, READY) else {"problem": self._said}
        return {"reembedding": {**told, **problem}}

    async def work(self) -> None:
        meta = await self._opening.meta()
        if meta is None or meta.next is None or meta.about_next is None:
            await self._load(None)
            self._next = None
            return
        self._service = self._service or f"{socket.gethostname()}/{os.getpid()}/{token_hex(3)}"
        said = self._said = await self._state(meta.about_next.model)
        there = self._opening.of(meta, meta.next, self._opening.embedders.configured, meta.token)
        with suppress(DatabaseChanged):  # it is over: the next look tells
            await there.run(SEEN, self._service, said)
            self._next = there

    async def _state(self, model: Model) -> str:
        """What is to be said of the model, which is loaded meanwhile."""
        if self._wanted is None or not self._wanted.is_same(model):
            await self._load(model)
        if self._opening.embedders.find(model) is not None:
            return READY
        if self._loading is None or not self._loading.done():
            return "it is being loaded"
        error = self._loading.exception()
        if error is None:
            return READY
        said = str(error) if isinstance(error, MemoryServiceError) else type(error).__name__
        if self._told != said:  # once, not at every look
            _log.warning("next_model_not_loaded", model=model.name, reason=said)
        self._told = said
        await self._load(model)  # it may work now
        return said

    async def _load(self, model: Model | None) -> None:
        """Load this model, and no other any more."""
        await end(self._loading)
        self._wanted, self._loading = model, None
        if model is not None:
            self._loading = asyncio.create_task(self._opening.embedders.load(model))
