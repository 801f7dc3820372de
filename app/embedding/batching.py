"""Texts of concurrent requests share passes, and none waits for a window to close.

Whatever has come while a pass ran is there for the next one. A pass is bounded by texts and by
tokens, holds texts of about one length, and starts with the request whose turn it is.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.errors import EmbeddingQueueFull, ShuttingDown

BATCH = 32
"""Texts of one pass at most, or of one call of an endpoint: more are not faster."""
QUEUE = 10_000
"""Texts that may wait, then 503: what is behind them would be out of time. Queries are apart."""
_WINDOW = 128
"""Texts of one request that are prepared at once."""


class _Request:
    """Texts of one caller, and as many of their vectors as there are."""

    def __init__(self, texts: Sequence[str], dimension: int) -> None:
        self.texts = texts
        self.vectors = np.empty((len(texts), dimension), np.float32)
        self.missing = len(texts)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows = deque(sorted(range(len(texts)), key=lambda n: len(texts[n])))
        self._ready: deque[tuple[int, Prepared]] = deque()

    def first(self, engine: Engine, *, query: bool) -> Prepared | None:
        """The next text, prepared; None at the end. Longest first within a window."""
        if not self._ready and self._rows:
            rows = [self._rows.popleft() for _ in range(min(_WINDOW, len(self._rows)))]
            prepared = engine.prepare([self.texts[row] for row in rows], query=query)
            pairs = sorted(zip(rows, prepared, strict=True), key=lambda p: -p[1].length)
            self._ready.extend(pairs)
        return self._ready[0][1] if self._ready else None

    def take(self) -> tuple["_Request", int, Prepared]:
        row, prepared = self._ready.popleft()
        return self, row, prepared


class Lane:
    """Requests of one kind, worked through in one thread.

    `texts` and `tokens` bound a pass, `waiting` the texts that may wait for it.
    """

    def __init__(
        self,
        engine: Engine,
        thread: Executor,
        *,
        query: bool,
        texts: int,
        tokens: int | None,
        waiting: int,
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._query = query
        self._texts = texts
        self._tokens = tokens
        self._most_waiting = waiting
        self._requests: deque[_Request] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._waiting = 0
        self._closed = False

    async def embed(self, texts: Sequence[str]) -> Vector:
        """Float32, shape (len(texts), dimension). A cancelled caller's texts leave the queue.

        Raises `EmbeddingQueueFull` where as many texts wait as may, however many these are.
        """
        if self._closed:
            raise ShuttingDown
        if self._waiting >= self._most_waiting:
            raise EmbeddingQueueFull
        request = _Request(texts, self._engine.dimension)
        if not request.missing:
            return request.vectors
        self._requests.append(request)
        self._waiting += len(texts)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        await request.done
        return request.vectors

    def close(self) -> None:
        """Let nobody wait any longer; a running pass ends by itself."""
        self._closed = True
        for request in self._requests:
            if not request.done.done():
                request.done.set_exception(ShuttingDown())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._drop_finished():
                try:
                    taken, vectors = await loop.run_in_executor(
                        self._thread, self._pass, list(self._requests)
                    )
                except _PassFailed as failure:
                    for request in failure.requests:
                        if not request.done.done():
                            request.done.set_exception(failure.reason)
                    continue
                for (request, row, _), vector in zip(taken, vectors, strict=True):
                    request.vectors[row] = vector
                    request.missing -= 1
                    self._waiting -= 1
                    if request.missing == 0 and not request.done.done():
                        request.done.set_result(None)
                self._requests.rotate(-1)
        except RuntimeError:  # the thread was shut down meanwhile
            self.close()
        finally:
            self._worker = None

    def _drop_finished(self) -> bool:
        """Whether any request is left."""
        left: deque[_Request] = deque()
        for request in self._requests:
            if request.done.done():
                self._waiting -= request.missing
            else:
                left.append(request)
        self._requests = left
        return bool(self._requests)

    def _pass(
        self, requests: list[_Request]
    ) -> tuple[list[tuple[_Request, int, Prepared]], Vector]:
        """In the thread: the vectors of the next texts of the first request, and of who fits in."""
        asked = requests[:1]
        try:
            first = requests[0].first(self._engine, query=self._query)
            assert first is not None  # noqa: S101 - a request without a text left is done
            longest = -(-first.length // 16) * 16
            shortest = min(longest * 2 // 3 - 8, first.length)
            room = self._texts
            if self._tokens is not None:
                room = max(1, min(room, self._tokens // longest))
            taken: list[tuple[_Request, int, Prepared]] = []
            for request in requests:
                if request.done.done():
                    continue
                asked = [*(r for r, _, _ in taken), request]
                while len(taken) < room:
                    prepared = request.first(self._engine, query=self._query)
                    if prepared is None or not shortest <= prepared.length <= longest:
                        break
                    taken.append(request.take())
                if len(taken) == room:
                    break
            if not taken:  # all of them were cancelled meanwhile
                return [], np.empty((0, self._engine.dimension), np.float32)
            asked = [r for r, _, _ in taken]
            return taken, self._engine.run([prepared for _, _, prepared in taken])
        except Exception as error:
            raise _PassFailed(asked, error) from error


class _PassFailed(Exception):
    """The engine failed at texts of these requests."""

    def __init__(self, requests: list[_Request], reason: Exception) -> None:
        super().__init__(str(reason))
        self.requests = requests
        self.reason = reason
