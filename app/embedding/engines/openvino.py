"""An exported graph on OpenVINO, which computes in bf16 where the processor can."""

import importlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import LifoQueue
from statistics import median
from time import perf_counter
from typing import Any, ClassVar

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.embedding.engines.graph import GraphEngine
from app.embedding.engines.mapped import let_go
from app.embedding.engines.openvino_kept import Kept
from app.embedding.graph import agreement
from app.embedding.graph.manifest import GRAPH, Manifest
from app.logs import get_logger

_log = get_logger(__name__)

_EXACT = "f32"
_PACKED_ANEW = (64, 112, 208)
"""Tokens for which oneDNN packs the weights in a layout that only these use, in fp32: 29 MB of a
model with 384 dimensions and 6 layers (oneDNN 3.13, AVX-512).
"""
_WARMED_UP = (
    "The first pass is slower than others.",
    "Weights are packed for long texts too. " * 9,
)
_TIMED = ["The basil stands on the windowsill. " * 3] * 8
_TIMES = 9
_CLEARLY = 0.9
"""Of the time of the other: a tenth less is more than chance."""


class OpenVinoEngine(GraphEngine):
    """A graph of one folder of the cache, in `precision`: f32, or None for OpenVINO's choice.

    `graph` is the exported one, or the one that OpenVINO made of it.

    In bf16 two threads run passes at once, on a compiled graph each: of one, a query would wait for
    the pass of a bulk load. In fp32 there is one, whose weights take as much as those of the two.
    """

    name: ClassVar[str] = "openvino"

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        threads: int,
        precision: str | None = None,
        graph: Path | None = None,
    ) -> None:
        super().__init__(folder, manifest)
        core = openvino_package().Core()
        model = core.read_model(str(graph or folder / GRAPH))
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_NUM_THREADS": threads,
            # Both would be pinned to the same processors, and PostgreSQL is on them too.
            "ENABLE_CPU_PINNING": False,
            **({"INFERENCE_PRECISION_HINT": precision} if precision else {}),
        }
        self._inputs = [each.any_name for each in model.inputs]
        compiled = core.compile_model(model, "CPU", options)
        self.precision: str = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        self.at_once = 1 if self.precision == _EXACT else 2
        self._requests: LifoQueue[Any] = LifoQueue()
        self._requests.put(compiled.create_infer_request())
        for _ in range(1, self.at_once):
            another = core.compile_model(model, "CPU", options)
            self._requests.put(another.create_infer_request())

    def warm_up(self) -> None:
        """Run passes on each compiled graph, which pack its weights, before threads use them."""
        batches = [self.prepare([text], query=True) for text in _WARMED_UP]
        for request in self._requests.queue:
            for batch in batches:
                self._pass(request, batch)

    def run(self, batch: Sequence[Prepared]) -> Vector:
        request = self._requests.get()
        try:
            return self._pass(request, batch)
        finally:
            self._requests.put(request)

    def _pass(self, request: Any, batch: Sequence[Prepared]) -> Vector:
        longest = max(prepared.length for prepared in batch)
        shape = (rows_of(len(batch)), max(longest, min(columns_of(longest), self.max_tokens)))
        # Only ever shared: a tensor that once held a shared array can't be grown.
        results = request.infer(self.padded(batch, self._inputs, shape), share_inputs=True)
        vectors: Vector = results[0][: len(batch)]
        return vectors


def open_openvino(folder: Path, manifest: Manifest, threads: int) -> Engine:
    """OpenVINO in the fastest form whose vectors are ONNX Runtime's, else ONNX Runtime.

    What was found once is not computed again, until the processor or OpenVINO is another.
    """
    reference: Engine | None = None
    try:
        kept = Kept(folder, openvino_package())
        engine = _as_kept(kept, folder, manifest, threads)
        if engine is not None:
            engine.warm_up()
            let_go(kept.weights)
            return engine
        reference = _reference(folder, manifest, threads)
        return _compared(kept, reference, folder, manifest, threads)
    except Exception as error:  # noqa: BLE001 - OpenVINO's errors are RuntimeError and more
        reason = f"{type(error).__name__}: {str(error)[:200]}"
    _log.warning("embedding_falls_back_to_onnxruntime", reason=reason)
    return reference or _reference(folder, manifest, threads)


def _reference(folder: Path, manifest: Manifest, threads: int) -> Engine:
    """ONNX Runtime, whose 15 MB a start with a kept verdict does without."""
    from app.embedding.engines.onnx import OnnxEngine

    return OnnxEngine(folder, manifest, threads)


def _as_kept(kept: Kept, folder: Path, manifest: Manifest, threads: int) -> OpenVinoEngine | None:
    """The engine whose vectors an earlier start compared, if there is one."""
    verdict = kept.verdict()
    if verdict is None:
        return None
    chosen = _EXACT if verdict.precision == _EXACT else None
    engine = OpenVinoEngine(folder, manifest, threads, chosen, graph=kept.graph)
    if engine.precision != verdict.precision:
        return None
    _log.info("embedding_openvino", precision=engine.precision, cosine=verdict.cosine)
    return engine


def _compared(
    kept: Kept, reference: Engine, folder: Path, manifest: Manifest, threads: int
) -> Engine:
    """The first form whose vectors are the reference's; raises `_OtherVectors` without one."""
    with kept.new() as graph:
        if graph is not None:
            engine = OpenVinoEngine(folder, manifest, threads, graph=graph)
            cosine = _accepted(engine, reference)
            if cosine is not None:
                exact = partial(OpenVinoEngine, folder, manifest, threads, _EXACT, graph)
                quick = _quicker(engine, exact)
                if quick is not engine and (own := _accepted(quick, reference)) is not None:
                    engine, cosine = quick, own
                kept.keep(graph, engine.precision, cosine)
                return engine
    wanted: str | None = None
    while True:
        engine = OpenVinoEngine(folder, manifest, threads, wanted)
        if _accepted(engine, reference) is not None:
            return engine
        if engine.precision == _EXACT:
            raise _OtherVectors
        wanted = _EXACT


def _quicker(chosen: OpenVinoEngine, in_fp32: Callable[[], OpenVinoEngine]) -> OpenVinoEngine:
    """`chosen`, unless fp32 is clearly quicker: some processors are slower in their bf16."""
    if chosen.precision == _EXACT:
        return chosen
    exact = in_fp32()
    return exact if _seconds(exact) <= _CLEARLY * _seconds(chosen) else chosen


def _seconds(engine: Engine) -> float:
    """What a pass of a few short texts takes, the median."""
    batch = engine.prepare(_TIMED, query=False)
    engine.run(batch)
    took = []
    for _ in range(_TIMES):
        started = perf_counter()
        engine.run(batch)
        took.append(perf_counter() - started)
    return median(took)


class _OtherVectors(Exception):
    """OpenVINO's vectors are not the graph's."""


def _accepted(engine: OpenVinoEngine, reference: Engine) -> float | None:
    """The least cosine of both engines' vectors; None where it is too small."""
    cosine = _agreement(engine, reference)
    if cosine >= agreement.AGREEMENT:
        _log.info("embedding_openvino", precision=engine.precision, cosine=cosine)
        return cosine
    _log.warning("embedding_openvino_differs", precision=engine.precision, cosine=cosine)
    return None


def _agreement(ours: Engine, theirs: Engine) -> float:
    """The least cosine of their vectors, of texts alone and of short ones together."""
    short = agreement.SAMPLES[:6]
    return min(
        agreement.least_cosine(run(ours, texts, query=False), run(theirs, texts, query=False))
        for run, texts in ((agreement.alone, agreement.SAMPLES), (agreement.together, short))
    )


def rows_of(count: int) -> int:
    """At least `count`, in steps of up to a quarter.

    OpenVINO keeps what it has compiled for every shape it has seen, so that they have to be few.
    """
    step = 1 << max(count.bit_length() - 3, 0)
    return -(-count // step) * step


def columns_of(tokens: int) -> int:
    """At least `tokens`, in steps of 8, of 16 beyond 64, without those that cost memory."""
    step = 8 if tokens <= 64 else 16
    columns = -(-tokens // step) * step
    return columns + step if columns in _PACKED_ANEW else columns


def openvino_package() -> Any:
    """The package, which is imported when it is first needed."""
    # Importing it sends an event to its maker, unless this package of its is not there.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")
