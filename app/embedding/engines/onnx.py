"""An exported graph on ONNX Runtime: no torch in this process."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import onnxruntime

from app.embedding.base import Vector
from app.embedding.engines.base import Prepared
from app.embedding.engines.graph import GraphEngine
from app.embedding.graph.manifest import GRAPH, Manifest


class OnnxEngine(GraphEngine):
    """A graph of one folder of the cache.

    Passes of two threads run at once: they share the weights and the pool of threads.
    """

    name: ClassVar[str] = "onnxruntime"
    at_once = 2

    def __init__(self, folder: Path, manifest: Manifest, threads: int) -> None:
        super().__init__(folder, manifest)
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

    def run(self, batch: Sequence[Prepared]) -> Vector:
        shape = (len(batch), max(prepared.length for prepared in batch))
        vectors: Vector = self._session.run(None, self.padded(batch, self._inputs, shape))[0]
        return vectors
