"""What every engine that runs an exported graph does; its tokens are made in Rust."""

import os
from abc import ABC
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from app.embedding.engines.base import Engine, Prepared
from app.embedding.engines.tokens import TokenReader
from app.embedding.graph.manifest import TOKENIZER, Manifest

# The cores belong to the passes; and a process that forked after parallel tokenizing is warned at.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Tokens = npt.NDArray[np.int64]


class GraphEngine(Engine, ABC):
    """Reads one folder of the cache."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.dimension = manifest.dimension
        self.max_tokens: int = manifest.max_tokens
        self._manifest = manifest
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        prompts = (manifest.query_prompt, manifest.document_prompt)
        self.reader = TokenReader(self._tokenizer, prompts, manifest.max_tokens)

    def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        manifest = self._manifest
        prompt = manifest.query_prompt if query else manifest.document_prompt
        encodings = self._tokenizer.encode_batch_fast([prompt + text for text in texts])
        return [Prepared(max(len(e.ids), 1), np.array(e.ids, np.int64)) for e in encodings]

    def padded(
        self, batch: Sequence[Prepared], names: Sequence[str], shape: tuple[int, int]
    ) -> dict[str, Tokens]:
        """Those inputs of the graph, each int64 of `shape`, which has room for the batch."""
        ids = np.full(shape, self._manifest.pad_id, np.int64)
        mask = np.zeros(shape, np.int64)
        mask[len(batch) :, 0] = 1  # a row of padding has a token too, as every text
        for row, prepared in enumerate(batch):
            tokens: Tokens = prepared.payload
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return {name: inputs[name] for name in names}
