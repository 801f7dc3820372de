"""Embedding by an endpoint like OpenAI's /v1/embeddings: TEI, Infinity, vLLM, OpenAI itself."""

import asyncio
import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from app.embedding import query_cache
from app.embedding.base import Embedder, SharedVectors, Vector, Windows
from app.embedding.batching import BATCH, QUEUE
from app.embedding.cutting import Cutter
from app.errors import (
    ConfigurationError,
    DriverError,
    DriverTimeout,
    EmbeddingQueueFull,
    EmbeddingUnavailable,
)
from app.settings import EmbeddingSettings
from app.slots import NoSlotFree, Slots

try:
    import httpx

    from app.embedding.bytes_read import ByteReader
    from app.retries import attempts
except ImportError as error:  # pragma: no cover - both are in the extra
    raise ConfigurationError(
        f"MEMORY_EMBEDDING_URL needs {error.name}: pip install '.[embedding]'"
    ) from error

WINDOW_BYTES = 2_048
"""In UTF-8. English prose of this length has about 450 tokens, and small models read 512."""
REPEATS = 2
"""How often a call is repeated that failed and may pass."""
_AT_ONCE = 4
"""Calls of texts that run at the same time; queries are not counted."""
_QUERIES_AT_ONCE = 64

_REPEATED = frozenset({408, 429, 500, 502, 503, 504})


class _Answered(Exception):
    """The endpoint answered with a status that is no success."""

    def __init__(self, status: int, retry_after: float | None) -> None:
        super().__init__(f"the embedding endpoint answered {status}")
        self.status = status
        self.retry_after = retry_after


class OpenAIEmbedder(Embedder):
    """The model `MEMORY_EMBEDDING_MODEL` of `MEMORY_EMBEDDING_URL`.

    Endpoints do not tell how much their model reads: longer texts are refused by some and cut by
    others. So a text of more than `WINDOW_BYTES` is embedded in windows.

    No try starts later than `MEMORY_EMBEDDING_TIMEOUT` seconds after the first. Raises
    `EmbeddingUnavailable`, `EmbeddingQueueFull`, `DriverTimeout`, `DriverError` for an answer that
    makes no sense, and `ConfigurationError` for one that refuses the key.
    """

    def __init__(self, settings: EmbeddingSettings) -> None:
        self.name = settings.model
        self.max_tokens = None
        self.engine = "openai"
        self._settings = settings
        self._opened = False
        self._http: httpx.AsyncClient | None = None
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._query_slots = Slots(_QUERIES_AT_ONCE, settings.timeout)
        self._waiting = 0
        self._cutter = Cutter(ByteReader(WINDOW_BYTES))
        self._cache = query_cache.QueryCache(query_cache.QUERIES, self._embed_query)

    async def open(self) -> None:
        if not self._opened:
            vector = (await self._call(["A sample, for its dimension."]))[0]
            self.dimension = len(vector)
            self._opened = True

    async def close(self) -> None:
        http, self._http = self._http, None
        self._opened = False
        self._cache.clear()
        if http is not None:
            await http.aclose()

    def share_queries(self, vectors: SharedVectors) -> None:
        self._cache.share(self, vectors)

    async def embed_query(self, text: str) -> Vector:
        return await self._cache.get(text)

    async def windows(self, text: str, prefix: str = "") -> Windows:
        windows = await self._cutter.text(text, prefix)
        self._note(text, windows)
        return windows

    async def embed_question(self, text: str) -> Vector:
        return await self._embed_queries(await self._cutter.question(text))

    async def _embed_query(self, text: str) -> Vector:
        await self.open()
        try:
            async with self._query_slots.one():
                vector: Vector = self._checked(await self._call([text]))[0]
        except NoSlotFree as error:
            raise EmbeddingQueueFull from error
        return vector

    async def embed(self, texts: Sequence[str]) -> Vector:
        await self.open()
        vectors = np.empty((len(texts), self.dimension), np.float32)
        if self._waiting >= QUEUE:
            raise EmbeddingQueueFull
        shortest_first = sorted(range(len(texts)), key=lambda n: len(texts[n]))

        async def one(rows: list[int]) -> None:
            async with self._slots:
                vectors[rows] = self._checked(await self._call([texts[row] for row in rows]))

        self._waiting += len(texts)
        try:
            async with asyncio.TaskGroup() as group:
                for start in range(0, len(texts), BATCH):
                    group.create_task(one(shortest_first[start : start + BATCH]))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        finally:
            self._waiting -= len(texts)
        return vectors

    def _checked(self, vectors: Vector) -> Vector:
        if vectors.shape[1] != self.dimension:
            raise DriverError(
                reason=f"the embedding endpoint gave {vectors.shape[1]} dimensions, "
                f"and {self.dimension} before"
            )
        return vectors

    async def _call(self, texts: list[str]) -> Vector:
        body = {"model": self.name, "input": texts, "encoding_format": "float"}
        seconds = self._settings.timeout
        try:
            async for attempt in attempts(self._wait_before_repeat, REPEATS, seconds):
                with attempt:
                    async with asyncio.timeout(seconds):
                        response = await self._client().post("/embeddings", json=body)
                    if not response.is_success:
                        raise _Answered(response.status_code, _retry_after(response))
        except _Answered as error:
            raise _of_status(error) from error
        except (httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise EmbeddingUnavailable(reason=type(error).__name__) from error
        except (httpx.TimeoutException, TimeoutError) as error:
            raise DriverTimeout(reason="the embedding endpoint did not answer in time") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise EmbeddingUnavailable(reason=f"embedding: {type(error).__name__}") from error
        return await asyncio.to_thread(_vectors, response.content, len(texts))

    def _wait_before_repeat(self, error: Exception) -> bool | float:
        """For stamina: whether to repeat, and the seconds that the endpoint asked for."""
        if isinstance(error, _Answered):
            wait = error.retry_after
            if error.status not in _REPEATED or (wait or 0.0) > self._settings.timeout:
                return False
            return True if wait is None else wait
        return isinstance(error, (httpx.TransportError, TimeoutError, OSError)) and not isinstance(
            error, (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
        )

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            key = self._settings.api_key
            self._http = httpx.AsyncClient(
                base_url=str(self._settings.url),
                headers={"Authorization": f"Bearer {key.get_secret_value()}"} if key else None,
                timeout=self._settings.timeout,
                limits=httpx.Limits(  # what may be under way is bounded before
                    max_connections=None, max_keepalive_connections=_AT_ONCE + _QUERIES_AT_ONCE
                ),
            )
        return self._http


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(float(response.headers["retry-after"]), 0.0)
    except (KeyError, ValueError):  # a date is not worth the trouble: stamina's own wait will do
        return None


def _of_status(error: _Answered) -> Exception:
    if error.status in {401, 403}:
        return ConfigurationError(
            f"MEMORY_EMBEDDING_API_KEY: the endpoint refuses it (status {error.status})"
        )
    if error.status == 404:
        return ConfigurationError(
            "MEMORY_EMBEDDING_URL, MEMORY_EMBEDDING_MODEL: the endpoint knows no such path or model"
        )
    kind = EmbeddingUnavailable if error.status in _REPEATED else DriverError
    return kind(reason=str(error))


def _vectors(content: bytes, count: int) -> Vector:
    """The vectors of an answer in the order of the texts: float32, length 1."""
    try:
        items = json.loads(content)["data"]
        if len(items) != count:
            raise DriverError(
                reason=f"the embedding endpoint gave {len(items)} vectors for {count} texts"
            )
        if {item.get("index", n) for n, item in enumerate(items)} != set(range(count)):
            raise DriverError(reason="the embedding endpoint's answer has wrong indexes")
        ordered: list[Any] = [None] * count
        for n, item in enumerate(items):
            ordered[item.get("index", n)] = _numbers(item["embedding"])
        vectors = np.array(ordered, np.float32)
    except (ValueError, TypeError, KeyError, AttributeError, binascii.Error) as error:
        raise DriverError(reason="the embedding endpoint's answer makes no sense") from error
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if vectors.ndim != 2 or not np.isfinite(lengths).all() or not lengths.all():
        raise DriverError(reason="the embedding endpoint gave vectors without a direction")
    return np.asarray(vectors / lengths, np.float32)


def _numbers(value: Any) -> Any:
    """A list of numbers, or base64 of little-endian float32."""
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value, validate=True), "<f4")
    return value
