"""Embedding in this process."""

import asyncio
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from app.embedding import query_cache
from app.embedding.base import Embedder, SharedVectors, Vector, Windows
from app.embedding.batching import BATCH, QUEUE, Lane
from app.embedding.cutting import Cutter
from app.embedding.engines.opening import open_engine
from app.embedding.passes import Passes
from app.settings import EmbeddingSettings

_PASS_TOKENS = 256
"""More in one pass are not faster on a CPU, and make who comes next wait longer."""

_NICENESS = 5


class LocalEmbedder(Embedder):
    """One model. Queries have a lane and a thread of their own.

    With an engine that runs one pass at a time, a query waits for the pass that runs.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.name = settings.model
        self._settings = settings
        self._opening = asyncio.Lock()
        self._threads: list[ThreadPoolExecutor] = []
        self._queries: Lane | None = None
        self._texts: Lane | None = None
        self._cutter: Cutter | None = None
        self._cache = query_cache.QueryCache(query_cache.QUERIES, self._embed_query)

    async def open(self) -> None:
        async with self._opening:
            if self._queries is not None:
                return
            if not self._threads:  # one is there after an open that failed
                self._threads.append(ThreadPoolExecutor(1, "embedding"))
            thread = self._threads[0]
            loop = asyncio.get_running_loop()
            engine = await loop.run_in_executor(thread, open_engine, self._settings)
            self.dimension, self.max_tokens = engine.dimension, engine.max_tokens
            self.engine = engine.name
            self._cutter = Cutter(engine.reader) if engine.reader is not None else None
            # Where queries wait for its passes, who holds it up would hold them up.
            first_step = _step_back if engine.at_once > 1 else None
            bulk = ThreadPoolExecutor(1, "embedding-bulk", first_step)
            self._threads.append(bulk)
            tokens = _PASS_TOKENS if self._settings.device == "cpu" else None
            lane = partial(Lane, Passes(engine), texts=BATCH, tokens=tokens, waiting=QUEUE)
            self._texts = lane(bulk, query=False)
            self._queries = lane(thread, query=True)

    async def close(self) -> None:
        lanes, self._queries, self._texts = (self._queries, self._texts), None, None
        for lane in lanes:
            if lane is not None:
                lane.close()
        threads, self._threads = self._threads, []
        for thread in threads:
            thread.shutdown(wait=False, cancel_futures=True)
        self._cache.clear()

    def share_queries(self, vectors: SharedVectors) -> None:
        self._cache.share(self, vectors)

    async def embed_query(self, text: str) -> Vector:
        return await self._cache.get(text)

    async def _embed_query(self, text: str) -> Vector:
        if self._queries is None:
            await self.open()
        assert self._queries is not None  # noqa: S101 - open() made it
        vector: Vector = (await self._queries.embed([text]))[0]
        return vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        if self._texts is None:
            await self.open()
        assert self._texts is not None  # noqa: S101 - open() made it
        return await self._texts.embed(texts)

    async def windows(self, text: str, prefix: str = "") -> Windows:
        if self._texts is None:
            await self.open()
        windows = await self._cutter.text(text, prefix) if self._cutter else Windows([text])
        self._note(text, windows)
        return windows

    async def embed_question(self, text: str) -> Vector:
        if self._queries is None:
            await self.open()
        windows = await self._cutter.question(text) if self._cutter else [text]
        return await self._embed_queries(windows)


def _step_back() -> None:
    """Let queries, PostgreSQL and the event loop go before this thread; Linux alone can."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
