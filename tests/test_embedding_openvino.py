"""OpenVINO: the model's own vectors, or another engine; few shapes, and no word to its maker.

Who needs torch imports it: at the top, every process that collects the tests would wait for it.
"""

import asyncio
import errno
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from app.embedding import Embedder, build_embedder
from app.embedding.engines import opening, openvino
from app.embedding.engines.base import Engine
from app.embedding.engines.processor import has_bf16
from app.embedding.graph import agreement
from app.embedding.locate import locate_model
from app.errors import ConfigurationError
from app.settings import EmbeddingSettings

SMALL = 0.98 if has_bf16() else 0.9999
"""Least cosine of the small model's vectors: random weights make more of bf16's rounding."""

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "kettle", *"abcdefgh"]
TEXTS = [
    "",
    "Ada's kettle is made of copper.",
    "Der Kessel ist aus Kupfer, çelik değil. 銅のやかん 🫖",
    "x" * 5_000,
    *("the kettle a b c " * n for n in range(1, 70)),
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DistilBERT of 16 dimensions with random weights, of 24 tokens at most."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    folder = tmp_path_factory.mktemp("small")
    raw = folder / "raw"
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}).save_pretrained(raw)
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32,
        max_position_embeddings=22, initializer_range=1.0,
    )  # fmt: skip
    DistilBertModel(config).save_pretrained(raw)
    modules = [Transformer(str(raw), max_seq_length=22), Pooling(16, "mean")]
    model = SentenceTransformer(
        modules=modules, device="cpu", prompts={"query": "a ", "document": "the "}
    )
    model.save(str(folder / "made"))
    return folder / "made"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all of them."""
    return tmp_path_factory.mktemp("graphs")


@pytest.fixture(autouse=True)
def nothing_kept(graphs: Path) -> None:
    """Let each test compare OpenVINO's vectors for itself."""
    for kept in graphs.glob("*/openvino-*"):
        shutil.rmtree(kept)


async def opened(**more: Any) -> tuple[Embedder, list[str]]:
    """An embedder on OpenVINO unless told otherwise, and what was logged."""
    embedder = build_embedder(EmbeddingSettings(**{"engine": "openvino", "threads": 1, **more}))
    with capture_logs() as logs:
        await embedder.open()
    return embedder, [str(line["event"]) for line in logs]


@pytest.mark.parametrize("default", [True, False])
async def test_vectors_are_the_models_own(small: Path, graphs: Path, default: bool) -> None:
    from sentence_transformers import SentenceTransformer

    place = locate_model(EmbeddingSettings()) if default else str(small)
    embedder, events = await opened(model=place, cache_dir=None if default else graphs)
    assert embedder.engine == "openvino"
    assert "embedding_openvino" in events
    own = SentenceTransformer(place, device="cpu")
    least = 0.9999 if default else SMALL
    texts = TEXTS[::6] if default else TEXTS  # it prepares itself for each length, which takes long
    try:
        vectors = await embedder.embed(texts)
        theirs = own.encode_document(texts, normalize_embeddings=True)
        assert vectors.dtype == np.float32
        assert (vectors * theirs).sum(axis=1).min() >= least
        queries = np.array([await embedder.embed_query(text) for text in TEXTS[:12]])
        theirs = own.encode_query(TEXTS[:12], normalize_embeddings=True)
        assert (queries * theirs).sum(axis=1).min() >= least
    finally:
        await embedder.close()


async def test_queries_during_a_bulk_load_get_their_own_vectors(
    small: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.embedding.query_cache.QUERIES", 0)
    embedder, _ = await opened(model=str(small), cache_dir=graphs)
    try:
        alone = np.array([await embedder.embed_query(text) for text in TEXTS])
        before = await embedder.embed(TEXTS)
        bulk = asyncio.create_task(embedder.embed(TEXTS * 20))
        queries = np.array(await asyncio.gather(*(embedder.embed_query(text) for text in TEXTS)))
        assert (queries * alone).sum(axis=1).min() >= SMALL
        assert (await bulk * np.tile(before, (20, 1))).sum(axis=1).min() >= SMALL
    finally:
        await embedder.close()


@pytest.mark.parametrize("passes_at", ["f32", None])
async def test_other_vectors_than_onnxruntimes_are_not_used(
    small: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch, passes_at: str | None
) -> None:
    """OpenVINO claims bf16 at its own choice; of what passes, the next is taken."""
    own = openvino.OpenVinoEngine.__init__

    def claims(self: Any, *arguments: Any, **named: Any) -> None:
        own(self, *arguments, **named)
        self.precision = arguments[3] if arguments[3:] and arguments[3] else "bf16"

    def least(ours: openvino.OpenVinoEngine, _: Engine) -> float:
        return 0.99995 if ours.precision == passes_at else float("nan")

    monkeypatch.setattr(openvino.OpenVinoEngine, "__init__", claims)
    monkeypatch.setattr(openvino, "_agreement", least)
    embedder, events = await opened(model=str(small), cache_dir=graphs)
    await embedder.close()
    assert embedder.engine == ("openvino" if passes_at else "onnxruntime")
    assert events.count("embedding_openvino_differs") == (2 if passes_at else 3)
    assert ("embedding_falls_back_to_onnxruntime" in events) == (passes_at is None)


async def test_a_bound_that_nothing_reaches_leaves_onnxruntime(
    small: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (await opened(model=str(small), cache_dir=graphs))[0].close()  # exports it
    monkeypatch.setattr(agreement, "AGREEMENT", 1.1)
    embedder, events = await opened(model=str(small), cache_dir=graphs)
    try:
        assert embedder.engine == "onnxruntime"
        assert events[-2:] == ["embedding_openvino_differs", "embedding_falls_back_to_onnxruntime"]
        assert (await embedder.embed(["the kettle"])).shape == (1, 16)
    finally:
        await embedder.close()


async def test_a_graph_that_openvino_refuses_runs_on_onnxruntime(
    small: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(openvino, "OpenVinoEngine", refuse)
    embedder, events = await opened(model=str(small), cache_dir=graphs)
    await embedder.close()
    assert embedder.engine == "onnxruntime"
    assert "embedding_falls_back_to_onnxruntime" in events


def kept_in(graphs: Path) -> list[Path]:
    """What is kept, and what was left of making it."""
    return list(graphs.glob("*/*openvino-*"))


@pytest.fixture
def agreeing(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The comparisons that were made; all of them find the same vectors."""
    made: list[float] = []

    def compared(*_: Engine) -> float:
        made.append(1.0)
        return 1.0

    monkeypatch.setattr(openvino, "_agreement", compared)
    monkeypatch.setattr(openvino, "_seconds", lambda _: 1.0)
    return made


async def vector_of(small: Path, graphs: Path) -> tuple[Any, list[str]]:
    """A text's vector by an engine that was opened for it, and what was logged."""
    embedder, events = await opened(model=str(small), cache_dir=graphs)
    try:
        assert embedder.engine == "openvino"
        return (await embedder.embed(["the kettle"]))[0], events
    finally:
        await embedder.close()


async def test_what_was_compared_is_kept_for_the_next_start(
    small: Path, graphs: Path, agreeing: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await vector_of(small, graphs)
    second, events = await vector_of(small, graphs)
    assert len(agreeing) == 1
    assert "embedding_openvino" in events
    assert (first == second).all()
    (kept,) = kept_in(graphs)
    exported = kept.parent / "model.onnx"
    assert (kept / "graph.bin").stat().st_size < exported.stat().st_size
    monkeypatch.setattr(agreement, "AGREEMENT", 0.5)  # what is asked for is another
    await vector_of(small, graphs)
    assert len(agreeing) == 2


@pytest.mark.parametrize("seconds", [0.5, 0.95])
async def test_a_processor_that_is_slower_in_bf16_computes_in_fp32(
    small: Path,
    graphs: Path,
    agreeing: list[float],
    monkeypatch: pytest.MonkeyPatch,
    seconds: float,
) -> None:
    own = openvino.OpenVinoEngine.__init__
    opened_in: list[str] = []

    def claims(self: Any, *arguments: Any, **named: Any) -> None:
        own(self, *arguments, **named)
        self.precision = arguments[3] if arguments[3:] and arguments[3] else "bf16"
        opened_in.append(self.precision)

    monkeypatch.setattr(openvino.OpenVinoEngine, "__init__", claims)
    times = {"f32": seconds, "bf16": 1.0}
    monkeypatch.setattr(openvino, "_seconds", lambda engine: times[engine.precision])
    is_quicker = seconds < 0.9
    await vector_of(small, graphs)
    assert opened_in == ["bf16", "f32"]
    assert len(agreeing) == (2 if is_quicker else 1)
    await vector_of(small, graphs)
    assert opened_in[2:] == ["f32" if is_quicker else "bf16"]
    assert len(agreeing) == (2 if is_quicker else 1)


@pytest.mark.parametrize("name", ["graph.bin", "graph.xml", "verdict.json"])
async def test_a_damaged_one_is_made_anew(
    small: Path, graphs: Path, agreeing: list[float], name: str
) -> None:
    first, _ = await vector_of(small, graphs)
    (kept,) = kept_in(graphs)
    damaged = (kept / name).read_bytes()
    (kept / name).write_bytes(damaged[: len(damaged) // 2])
    second, _ = await vector_of(small, graphs)
    third, _ = await vector_of(small, graphs)
    assert len(agreeing) == 2
    assert (first == second).all()
    assert (first == third).all()


async def test_where_nothing_can_be_kept_each_start_compares(
    small: Path, graphs: Path, agreeing: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("app.embedding.engines.openvino_kept.tempfile.mkdtemp", full)
    for n in (1, 2):
        _, events = await vector_of(small, graphs)
        assert len(agreeing) == n
        assert "embedding_graph_not_kept" in events
    assert kept_in(graphs) == []


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if it were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name)
    )


async def test_a_missing_package_is_told_with_its_extra(
    small: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch, "openvino")
    with pytest.raises(ConfigurationError, match=r"openvino is not installed.*'\.\[openvino\]'"):
        await opened(model=str(small), cache_dir=graphs)


@pytest.mark.parametrize(
    ("bf16", "installed", "engine"),
    [
        (True, True, "openvino"),
        (True, False, "onnxruntime"),
        (False, True, "onnxruntime"),
    ],
)
async def test_auto_takes_openvino_for_bf16(
    small: Path,
    graphs: Path,
    monkeypatch: pytest.MonkeyPatch,
    bf16: bool,
    installed: bool,
    engine: str,
) -> None:
    monkeypatch.setattr(opening, "has_bf16", lambda: bf16)
    if not installed:
        without(monkeypatch, "openvino")
    embedder, _ = await opened(model=str(small), cache_dir=graphs, engine="auto")
    await embedder.close()
    assert embedder.engine == engine


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx512f avx512_bf16 sse\n", True),
        ("processor\t: 0\nflags\t\t: fpu amx_bf16\n\nprocessor\t: 1\n", True),
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nbugs\t: amx_bf16\n", False),
        ("", False),
    ],
)
def test_bf16_is_read_from_the_flags(tmp_path: Path, cpuinfo: str, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert has_bf16(tmp_path / "cpuinfo") == expected
    assert not has_bf16(tmp_path / "missing")


def test_every_batch_has_one_of_few_shapes() -> None:
    rows = [openvino.rows_of(n) for n in range(1, 1_025)]
    columns = [openvino.columns_of(n) for n in range(1, 513)]
    assert all(n <= row <= n * 1.25 for n, row in enumerate(rows, 1))
    assert all(n <= column < n + 32 for n, column in enumerate(columns, 1))
    assert set(columns).isdisjoint({64, 112, 208})
    assert (len(set(rows)), len(set(columns))) == (36, 34)


SILENT = """
import asyncio, socket, sys
from pathlib import Path
def refuse(*_, **__):
    raise AssertionError("asked for an address")
socket.getaddrinfo = refuse
from app.embedding import build_embedder
from app.settings import EmbeddingSettings
async def main():
    embedder = build_embedder(EmbeddingSettings(
        model=sys.argv[1], cache_dir=Path(sys.argv[2]), engine="openvino"))
    await embedder.open()
    print(embedder.engine)
    await embedder.close()
asyncio.run(main())
print([name for name in sys.modules if "openvino_telemetry" in name and sys.modules[name]])
print({"torch", "transformers", "sentence_transformers"} & set(sys.modules))
"""


def test_a_process_on_openvino_tells_nobody_and_imports_no_torch(
    small: Path, graphs: Path, tmp_path: Path, root: Path
) -> None:
    command = [sys.executable, "-c", SILENT, str(small), str(graphs)]
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines()[-3:] == ["openvino", "[]", "set()"], done.stdout + done.stderr
    assert not (tmp_path / "intel").exists()  # where it would keep a number for this machine
