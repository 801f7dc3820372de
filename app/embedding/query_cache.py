"""The vectors of the queries asked last, in front of an embedder."""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import numpy as np

from app.embedding.base import Embedder, SharedVectors, Vector
from app.single_flight import SingleFlight

QUERIES = 1_024
"""Vectors of queries that a process keeps: a megabyte or two, for what is asked again and again."""


class QueryCache:
    """At most `size` vectors, least recently used out first. They are read-only.

    Callers that miss the same text at once wait for one computation, which is cancelled only when
    the last of them is. What is missing here is looked for in what other processes share, if any.
    """

    def __init__(self, size: int, compute: Callable[[str], Awaitable[Vector]]) -> None:
        self._size = size
        self._compute = compute
        self._vectors: OrderedDict[bytes, Vector] = OrderedDict()
        self._single_flight: SingleFlight[Vector] = SingleFlight()
        self._shared: tuple[Embedder, SharedVectors] | None = None

    def share(self, embedder: Embedder, vectors: SharedVectors) -> None:
        """Share the vectors of `embedder`, whose queries these are."""
        self._shared = embedder, vectors

    async def get(self, text: str) -> Vector:
        """The vector of the text; what `compute` raises is raised and not kept."""
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        known = self._vectors.get(key)
        if known is not None:
            self._vectors.move_to_end(key)
            return known
        return await self._single_flight.join(key, lambda: self._fill(key, text))

    def clear(self) -> None:
        """Forget every vector."""
        self._vectors.clear()

    async def _fill(self, key: bytes, text: str) -> Vector:
        vector = await (self._compute(text) if self._shared is None else self._share(key, text))
        vector.setflags(write=False)
        if self._size:
            self._vectors[key] = vector
            while len(self._vectors) > self._size:
                self._vectors.popitem(last=False)
        return vector

    async def _share(self, key: bytes, text: str) -> Vector:
        assert self._shared is not None  # noqa: S101 - the caller looked
        embedder, vectors = self._shared
        await embedder.open()  # its dimension and its engine are part of the name
        model = f"{embedder.name} {embedder.engine} {embedder.dimension}"
        name = f"{hashlib.sha256(model.encode()).hexdigest()[:16]}:{key.hex()}"
        kept = await vectors.find_vector(name)
        if kept is not None and len(kept) == 4 * embedder.dimension:
            return np.frombuffer(kept, "<f4").astype(np.float32)
        vector = await self._compute(text)
        await vectors.keep_vector(name, vector.astype("<f4").tobytes())
        return vector
