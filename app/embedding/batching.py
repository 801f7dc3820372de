"""Texts of concurrent requests share passes, and none waits for a window to close.

Whatever has come while a pass ran is there for the next one. A pass is bounded by texts and by
tokens, holds texts of about one length, and starts with the request whose turn it is.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Executor
from queue import SimpleQueue
from typing import TypeAlias

import numpy as np

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.embedding.passes import Passes
from app.errors import EmbeddingQueueFull, ShuttingDown

BATCH = 32
"""Texts of one pass at most, or of one call of an endpoint: more are not faster."""
QUEUE = 10_000
"""Texts that may wait, then 503: what is behind them would be out of time. Queries are apart."""
_TOKENS_BESIDE_QUERIES = 64
"""Of a pass of texts that a query may have to wait for."""
_WINDOW = 128
"""Texts of one request that are prepared at once."""


class _Request:
    """Texts of one caller, and as many of their vectors as there are.

    The loop has `vectors`, `missing` and `done`; the rest is the thread's.
    """

    def __init__(self, texts: Sequence[str], dimension: int) -> None:
        self.texts = texts
        self.vectors = np.empty((len(texts), dimension), np.float32)
        self.missing = len(texts)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._rows = deque(sorted(range(len(texts)), key=lambda n: len(texts[n])))
        self._ready: deque[tuple[int, Prepared]] = deque()

    def first(self, engine: Engine, *, query: bool) -> Prepared | None:
        """The next text, prepared; None at the end. Longest first within a window."""
        if self.done.done():  # its caller has left
            self.drop()
        if not self._ready and self._rows:
            rows = [self._rows.popleft() for _ in range(min(_WINDOW, len(self._rows)))]
            prepared = engine.prepare([self.texts[row] for row in rows], query=query)
            pairs = sorted(zip(rows, prepared, strict=True), key=lambda p: -p[1].length)
            self._ready.extend(pairs)
        return self._ready[0][1] if self._ready else None

    def take(self) -> "_Taken":
        row, prepared = self._ready.popleft()
        return self, row, prepared

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def drop(self) -> None:
        """Leave no text to embed."""
        self._rows.clear()
        self._ready.clear()


_Taken: TypeAlias = tuple[_Request, int, Prepared]


class Lane:
    """Requests of one kind, worked through in one thread.

    The thread goes from pass to pass, and prepares the next one before it hands over the vectors of
    the last. To ask the loop in between, or to prepare while the loop is awake, would make each
    pass wait for all that the loop does with those vectors.
    """

    def __init__(
        self,
        passes: Passes,
        thread: Executor,
        *,
        query: bool,
        texts: int,
        tokens: int | None,
        waiting: int,
    ) -> None:
        """`texts` and `tokens` bound a pass, `waiting` the texts that may wait for it.

        While queries come, a pass of texts has fewer `tokens` where these would wait for it; None
        bounds it neither way. Nobody else uses the `thread`.
        """
        self._passes = passes
        self._engine = passes.engine
        self._thread = thread
        self._query = query
        self._texts = texts
        self._tokens = tokens
        self._most_waiting = waiting
        self._arrived: SimpleQueue[_Request] = SimpleQueue()
        self._open: set[_Request] = set()
        """Those whose callers wait."""
        self._turns: deque[_Request] = deque()
        """Those with texts that no pass has taken, in whose turn it is: the thread's."""
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
        self._open.add(request)
        self._waiting += len(texts)
        self._arrived.put(request)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            await request.done
        finally:
            self._open.discard(request)
            self._waiting -= request.missing
        return request.vectors

    def close(self) -> None:
        """Let nobody wait any longer; a running pass ends by itself."""
        self._closed = True
        for request in self._open:
            request.fail(ShuttingDown())

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while not self._arrived.empty():
                await loop.run_in_executor(self._thread, self._work_off, loop)
        except RuntimeError:  # the thread was shut down meanwhile
            self.close()
        finally:
            self._worker = None

    def _give(self, taken: Sequence[_Taken], made: Vector | Exception) -> None:
        """Hand over the vectors of a pass, or what it failed with."""
        if isinstance(made, Exception):
            for request, _, _ in taken:
                request.fail(made)
            return
        for (request, row, _), vector in zip(taken, made, strict=True):
            if request.done.done():
                continue
            request.vectors[row] = vector
            request.missing -= 1
            self._waiting -= 1
            if not request.missing:
                request.done.set_result(None)

    def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        """In the thread: run passes until no text is left."""
        taken = self._next(loop)
        while taken and not self._closed:
            made = self._run(taken)
            following = self._next(loop)
            loop.call_soon_threadsafe(self._give, taken, made)
            taken = following

    def _next(self, loop: asyncio.AbstractEventLoop) -> list[_Taken]:
        """The next texts of the first request, and of who fits in; who has none any more goes."""
        turns, taken = self._turns, list[_Taken]()
        while not self._arrived.empty():
            turns.append(self._arrived.get_nowait())
        starter: _Request | None = None
        shortest = longest = room = 0
        for request in tuple(turns):
            while starter is None or len(taken) < room:
                prepared = self._first(request, loop)
                if prepared is None:
                    turns.remove(request)
                    break
                if starter is None:
                    starter = request
                    longest = -(-prepared.length // 16) * 16
                    shortest = min(longest * 2 // 3 - 8, prepared.length)
                    room = self._room(longest)
                elif not shortest <= prepared.length <= longest:
                    break
                taken.append(request.take())
            if starter is not None and len(taken) == room:
                break
        if turns and turns[0] is starter:
            turns.rotate(-1)
        return taken

    def _first(self, request: _Request, loop: asyncio.AbstractEventLoop) -> Prepared | None:
        """The next text of a request; its caller gets what a text can't be prepared for."""
        try:
            return request.first(self._engine, query=self._query)
        except Exception as error:  # noqa: BLE001 - a tokenizer can raise anything
            request.drop()
            loop.call_soon_threadsafe(request.fail, error)
            return None

    def _room(self, longest: int) -> int:
        """How many texts of that many tokens fit into a pass."""
        if self._tokens is None:
            return self._texts
        tokens = self._tokens
        if not self._query and self._passes.make_queries_wait:
            tokens = min(tokens, _TOKENS_BESIDE_QUERIES)
        return max(1, min(self._texts, tokens // longest))

    def _run(self, taken: Sequence[_Taken]) -> Vector | Exception:
        try:
            return self._passes.run([prepared for _, _, prepared in taken], query=self._query)
        except Exception as error:  # noqa: BLE001 - whoever had a text in it gets it
            for request, _, _ in taken:
                request.drop()
            return error
