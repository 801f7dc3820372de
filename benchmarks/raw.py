"""The raw pipeline: what this machine could do at best, and nothing of the service in it.

The fastest of two engines at the same precision (fp32), with micro-batching, and exact SQL over
asyncpg on the same PostgreSQL server. No HTTP, no checks, no indexes but the one by user.
"""

import asyncio
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from time import perf_counter
from typing import Any, Self
from uuid import uuid4

import asyncpg
import numpy as np
import numpy.typing as npt
from pgvector.asyncpg import register_vector
from tokenizers import Tokenizer

from app.embedding.locate import locate_model
from app.settings import EmbeddingSettings

Vector = npt.NDArray[np.float32]
Ids = npt.NDArray[np.int64]

MOST_AT_ONCE = 32
"""Texts of one pass."""

_TABLE = """
    create table memories (
        memory_id uuid primary key, user_id text not null, conversation_id text,
        content text not null, tags text[] not null, metadata json not null,
        created_at timestamptz not null default now(), embedding vector(384) not null
    )
"""
_STORE = """
    insert into memories (memory_id, user_id, content, tags, metadata, embedding)
    values ($1, $2, $3, '{}', '{}', $4)
    returning memory_id, user_id, conversation_id, content, tags, metadata, created_at
"""
_RECALL = """
    select memory_id, user_id, conversation_id, content, tags, metadata, created_at,
        1 - (embedding <=> $2) as score
    from memories where user_id = $1 order by embedding <=> $2 limit 10
"""


class Engine(ABC):
    """Runs the exported model."""

    name: str

    @abstractmethod
    def run(self, ids: Ids, mask: Ids) -> Vector:
        """The unit vectors of tokenized texts."""


class _OnnxRuntime(Engine):
    def __init__(self, model: Path) -> None:
        import onnxruntime

        self.name = f"onnxruntime {onnxruntime.__version__}"
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(self, ids: Ids, mask: Ids) -> Vector:
        return np.asarray(self._session.run(None, {"ids": ids, "mask": mask})[0], np.float32)


class _OpenVino(Engine):
    def __init__(self, model: Path) -> None:
        import openvino

        self.name = f"openvino {openvino.__version__.split('-')[0]}"
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        self._request = compiled.create_infer_request()

    def run(self, ids: Ids, mask: Ids) -> Vector:
        return np.array(next(iter(self._request.infer({"ids": ids, "mask": mask}).values())))


class Encoder:
    """Texts to vectors in a thread that takes what waits, up to `MOST_AT_ONCE`, in one pass."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer) -> None:
        self.engine = engine
        self._tokenizer = tokenizer
        self._waiting: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def encode(self, texts: Sequence[str]) -> Vector:
        """The vectors of one pass."""
        encoded = self._tokenizer.encode_batch_fast(list(texts))
        ids = np.array([text.ids for text in encoded], np.int64)
        mask = np.array([text.attention_mask for text in encoded], np.int64)
        return self.engine.run(ids, mask)

    def encode_all(self, texts: Sequence[str]) -> None:
        """Encode any number of texts, those of a length together."""
        by_length = sorted(texts, key=len)
        for start in range(0, len(texts), MOST_AT_ONCE):
            self.encode(by_length[start : start + MOST_AT_ONCE])

    async def __call__(self, text: str) -> Vector:
        """The vector of one text, made in the next pass."""
        waiting = _Waiting(text, asyncio.get_running_loop().create_future())
        self._waiting.put(waiting)
        return await waiting.vector

    def close(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = [first]
            while len(batch) < MOST_AT_ONCE and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    self._waiting.put(None)
                    break
                batch.append(following)
            vectors = self.encode([waiting.text for waiting in batch])
            first.vector.get_loop().call_soon_threadsafe(_give, batch, vectors)


@dataclass(frozen=True, slots=True)
class _Waiting:
    text: str
    vector: "asyncio.Future[Vector]"


def _give(batch: list[_Waiting], vectors: Vector) -> None:
    for waiting, vector in zip(batch, vectors, strict=True):
        waiting.vector.set_result(vector)


def fastest_encoder(sample: Sequence[str]) -> tuple[Encoder, dict[str, float]]:
    """The encoder that handles sixteen at a time fastest, and what each engine reached."""
    folder = locate_model(EmbeddingSettings.model_construct())
    tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
    tokenizer.enable_truncation(256)
    tokenizer.enable_padding(pad_to_multiple_of=8)
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / "model.onnx"
        _export(folder, model)
        encoders = [Encoder(engine(model), tokenizer) for engine in (_OnnxRuntime, _OpenVino)]
    rates = {encoder.engine.name: _rate(encoder, sample) for encoder in encoders}
    best, *others = sorted(encoders, key=lambda encoder: -rates[encoder.engine.name])
    for other in others:
        other.close()
    return best, rates


def _rate(encoder: Encoder, sample: Sequence[str]) -> float:
    seconds = []
    for start in range(0, len(sample) - 16, 16):
        started = perf_counter()
        encoder.encode(sample[start : start + 16])
        seconds.append(perf_counter() - started)
    return 16 / median(seconds[len(seconds) // 4 :])


def _export(folder: str, to: Path) -> None:
    """Write the whole sentence-transformers model, with pooling and normalisation, as ONNX."""
    import torch
    from sentence_transformers import SentenceTransformer

    class Whole(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = SentenceTransformer(folder, device="cpu").eval()

        def forward(self, ids: Any, mask: Any) -> Any:
            return self.parts({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    shape = torch.ones((2, 8), dtype=torch.int64)
    with torch.inference_mode():
        torch.onnx.export(
            Whole(),
            (shape, shape),
            str(to),
            input_names=["ids", "mask"],
            output_names=["vectors"],
            dynamic_axes={"ids": {0: "n", 1: "tokens"}, "mask": {0: "n", 1: "tokens"}},
            dynamo=False,
        )


class Raw:
    """The pipeline, with a database of its own on the server of the service."""

    def __init__(self, encoder: Encoder, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._encoder = encoder
        self._pool = pool
        self._vectors: dict[str, Any] = {}

    @classmethod
    async def open(cls, encoder: Encoder, server: str) -> Self:
        """Connect; the first time, make the database."""
        connection = await asyncpg.connect(server)
        if not await connection.fetchval("select 1 from pg_database where datname = 'raw'"):
            await connection.execute("create database raw")
        await connection.close()
        url = server.replace("/postgres?", "/raw?")
        connection = await asyncpg.connect(url)
        if not await connection.fetchval("select to_regclass('memories')"):
            await connection.execute("create extension vector")
            await connection.execute(_TABLE)
            await connection.execute("alter table memories alter embedding set storage plain")
            await connection.execute("create index on memories (user_id)")
        await connection.close()
        pool = await asyncpg.create_pool(
            url, min_size=0, max_size=16, init=register_vector, reset=_keep_session
        )
        return cls(encoder, pool)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def adopt(self, server: str) -> None:
        """Copy the service's memories with their vectors, which would take long to make again."""
        service = await asyncpg.connect(server.replace("/postgres?", "/memory?"))
        await register_vector(service)
        rows = await service.fetch("select user_id, content, embedding from memories")
        await service.execute("vacuum analyze")
        await service.close()
        columns = ["memory_id", "user_id", "content", "tags", "metadata", "embedding"]
        records: list[tuple[Any, ...]] = [
            (uuid4(), row["user_id"], row["content"], [], "{}", row["embedding"]) for row in rows
        ]
        async with self._pool.acquire() as connection:
            await connection.copy_records_to_table("memories", records=records, columns=columns)
            await connection.execute("vacuum analyze")

    async def recall(self, user: str, query: str) -> None:
        """Encode and ask, exactly: there is no index of vectors to go astray in."""
        vector = await self._encoder(query)
        await self._pool.fetch(_RECALL, user, vector)

    async def repeat(self, user: str, query: str) -> None:
        """Ask with the vector of before: what the SQL alone costs."""
        if query not in self._vectors:
            self._vectors[query] = await self._encoder(query)
        await self._pool.fetch(_RECALL, user, self._vectors[query])

    async def store(self, user: str, text: str) -> None:
        """Encode and insert."""
        vector = await self._encoder(text)
        await self._pool.fetchrow(_STORE, uuid4(), user, text, vector)


async def _keep_session(_: "asyncpg.Connection[asyncpg.Record]") -> None:
    """In place of the statements that asyncpg sends at every release."""
