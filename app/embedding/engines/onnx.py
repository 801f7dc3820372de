"""An exported graph on ONNX Runtime, with the tokenizer in Rust: no torch in this process."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnxruntime
from tokenizers import Tokenizer

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.embedding.graph.manifest import GRAPH, TOKENIZER, Manifest

# The cores belong to the passes; and a process that forked after parallel tokenizing is warned at.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class OnnxEngine(Engine):
    """A graph of one folder of the cache.

    Passes of two threads run at once: they share the weights and the pool of threads.
    """

    name: ClassVar[str] = "onnxruntime"
    parallel: ClassVar[bool] = True

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        self.dimension = manifest.dimension
        self.max_tokens = manifest.max_tokens
        self._manifest = manifest
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # Spinning would take the cores from PostgreSQL between two passes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # It remembers a plan of memory for every shape, and shapes here are without number.
        options.enable_mem_pattern = False
        self._session = onnxruntime.InferenceSession(
            str(folder / GRAPH),
            options,
            providers=[
                ("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"}),
            ],
        )
        self._inputs = [each.name for each in self._session.get_inputs()]

    def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        manifest = self._manifest
        prompt = manifest.query_prompt if query else manifest.document_prompt
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts])
        return [Prepared(max(len(e.ids), 1), np.array(e.ids, np.int64)) for e in encodings]

    def run(self, batch: Sequence[Prepared]) -> Vector:
        shape = (len(batch), max(prepared.length for prepared in batch))
        ids = np.full(shape, self._manifest.pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        for row, prepared in enumerate(batch):
            tokens: npt.NDArray[np.int64] = prepared.payload
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        used = {name: inputs[name] for name in self._inputs}
        vectors: Vector = self._session.run(None, used)[0]
        return vectors
