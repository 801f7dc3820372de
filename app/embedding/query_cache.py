"""The vectors of the queries asked last, in front of an embedder."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from app.embedding.base import Vector


class QueryCache:
    """At most `size` vectors, least recently used out first. They are read-only.

    Callers that miss the same text at once wait for one computation, which is cancelled only when
    the last of them is.
    """

    def __init__(self, size: int, compute: Callable[[str], Awaitable[Vector]]) -> None:
        self._size = size
        self._compute = compute
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._running: dict[bytes, tuple[asyncio.Task[Vector], list[None]]] = {}

    async def get(self, text: str) -> Vector:
        """The vector of the text; what `compute` raises is raised and not kept."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._vectors.get(key)
        if known is not None:
            self._vectors.move_to_end(key)
            return known
        if key not in self._running:
            task = asyncio.ensure_future(self._fill(key, text))
            self._running[key] = (task, [])
            task.add_done_callback(lambda _: self._forget(key, task))
        task, waiters = self._running[key]
        waiters.append(None)
        try:
            return await asyncio.shield(task)
        finally:
            waiters.pop()
            if not waiters and not task.done():
                self._forget(key, task)
                task.cancel()

    def clear(self) -> None:
        """Forget every vector."""
        self._vectors.clear()

    def _forget(self, key: bytes, task: asyncio.Task[Vector]) -> None:
        if key in self._running and self._running[key][0] is task:
            del self._running[key]

    async def _fill(self, key: bytes, text: str) -> Vector:
        vector = await self._compute(text)
        vector.setflags(write=False)
        if self._size:
            self._vectors[key] = vector
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return vector
