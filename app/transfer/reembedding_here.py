"""A re-embedding that a service does itself, in the background."""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from app.core.memory.record_driver import RecordDriver
from app.core.memory.reembedding import Reembedding
from app.embedding import Embedder
from app.errors import ConfigurationError, Conflict, InvalidInput, MemoryServiceError
from app.logs import get_logger
from app.tasks import end
from app.transfer.reembed import Reembedded, call_off, reembed

_BEGIN_SECONDS: Final = 10.0
"""How long a request waits for it to begin."""

_log = get_logger(__name__)


@dataclass(slots=True)
class _Running:
    """One that was begun."""

    model: str
    work: Reembedding
    told: Reembedded = field(default_factory=Reembedded)
    task: asyncio.Task[None] | None = None
    refused: MemoryServiceError | None = None
    """Why it could not begin."""


class ReembeddingsHere:
    """At most one at a time; it ends with the service, and can go on after that."""

    def __init__(self) -> None:
        self._running: _Running | None = None
        self._changing = asyncio.Lock()

    async def start(self, driver: RecordDriver, embedder: Embedder, *, force: bool) -> Reembedded:
        """Begin, or see how far the one to that model is; the rest goes on in the background.

        A model that loads for more than `_BEGIN_SECONDS` is not waited for; why it can't be used is
        in the log then. Raises `Conflict` where one to another model goes on here, `InvalidInput`
        for a model that the records can't get, and what the driver raises.
        """
        async with self._changing:
            running = self._running
            if running is not None and running.task is not None and not running.task.done():
                if running.model != embedder.name:
                    raise Conflict(f"The records are being brought to the model {running.model}")
                return running.told
            running = _Running(embedder.name, driver.reembedding(embedder))
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            running.task = asyncio.create_task(_run(running, begun, force=force))
            self._running = running
            first = asyncio.FIRST_COMPLETED
            await asyncio.wait([begun, running.task], timeout=_BEGIN_SECONDS, return_when=first)
            if running.task.done():
                self._running = None
                await running.task
                if isinstance(running.refused, ConfigurationError):
                    raise InvalidInput(running.refused.reason, ("model",)) from running.refused
                if running.refused is not None:
                    raise running.refused
            return running.told

    async def call_off(self, driver: RecordDriver, embedder: Embedder) -> bool:
        """Leave the driver's records as they are; whether there was something to call off."""
        async with self._changing:
            await self._stop()
            work = driver.reembedding(embedder)
            try:
                await work.open()
                return await call_off(work)
            finally:
                await work.close()

    async def close(self) -> None:
        """End what runs; it can be begun again."""
        async with self._changing:
            await self._stop()

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await end(running.task)


async def _run(running: _Running, begun: "asyncio.Future[None]", *, force: bool) -> None:
    """Do it; what goes wrong is in the log, and until it has `begun` also `refused`."""
    work, model = running.work, running.model
    try:
        await work.open()
        await work.begin()
        begun.set_result(None)
        await reembed(work, running.told, force=force)
        _log.info("reembedded", model=model, records=running.told.records)
    except MemoryServiceError as error:
        running.told.waiting = None
        _log.error("reembedding_failed", model=model, reason=error.reason)
        if not begun.done():
            running.refused = error
    finally:
        await work.close()
