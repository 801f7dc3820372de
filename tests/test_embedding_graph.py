"""The exported graph: the model's own vectors without torch, whatever happens to its folder.

Who needs torch imports it: at the top, every process that collects the tests would wait for it.
"""

import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from structlog.testing import capture_logs

from app.embedding import Embedder, build_embedder
from app.embedding.graph import cache, convert
from app.embedding.locate import locate_model
from app.errors import ConfigurationError
from app.machine import cores
from app.settings import EmbeddingSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "kettle", "query", ":", *"abcdefgh"]
TEXTS = ["the kettle", "a b c " * 30, "", "Kettle QUERY: a", "d e f", "zzz"]


def distilbert(folder: Path, pooling: str = "cls", *more: Any, **options: Any) -> Path:
    """A model of 16 dimensions with random weights, which differ on every call."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertTokenizer, DistilBertConfig, DistilBertModel

    raw = folder / "raw"
    BertTokenizer(vocab={word: n for n, word in enumerate(WORDS)}).save_pretrained(raw)
    config = DistilBertConfig(
        vocab_size=len(WORDS), dim=16, n_layers=2, n_heads=2, hidden_dim=32,
        max_position_embeddings=32, initializer_range=1.0,
    )  # fmt: skip
    DistilBertModel(config).save_pretrained(raw)
    modules = [Transformer(str(raw), max_seq_length=24), Pooling(16, pooling), *more]
    SentenceTransformer(modules=modules, device="cpu", **options).save(
        str(folder / "made"), create_model_card=False
    )
    return folder / "made"


def settings(model: Path, graphs: Path, **more: Any) -> EmbeddingSettings:
    """An engine that has graphs, on one thread, and they in a folder of the test's own."""
    given = {"engine": "onnxruntime", "threads": 1, **more}
    return EmbeddingSettings(model=str(model), cache_dir=graphs, **given)


async def agreement(wanted: EmbeddingSettings, model: Path) -> tuple[float, list[str]]:
    """The least cosine with sentence-transformers' own vectors, and the events logged meanwhile."""
    from sentence_transformers import SentenceTransformer

    own = SentenceTransformer(str(model), device="cpu")
    embedder = build_embedder(wanted)
    with capture_logs() as logs:
        await embedder.open()
    try:
        texts = (await embedder.embed(TEXTS)) * own.encode_document(
            TEXTS, normalize_embeddings=True
        )
        queries = np.array([await embedder.embed_query(text) for text in TEXTS])
        queries = queries * own.encode_query(TEXTS, normalize_embeddings=True)
    finally:
        await embedder.close()
    least = min(texts.sum(axis=1).min(), queries.sum(axis=1).min())
    return float(least), [str(line["event"]) for line in logs]


@pytest.fixture(scope="session")
def own() -> "SentenceTransformer":
    """The default model; whoever exports its graph afterwards need not load torch again."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(locate_model(EmbeddingSettings()), device="cpu")


async def test_real_texts_of_every_length_get_the_models_own_vectors(
    own: "SentenceTransformer", embedder: Embedder
) -> None:
    words = re.split(r"\s+", " ".join(topics.values()))
    random = np.random.default_rng(4)
    texts = []
    for size in np.exp2(random.uniform(0, 5, 45)).astype(int).tolist() + [300] * 5:
        start = int(random.integers(len(words) - size))
        texts.append(" ".join(words[start : start + size]))
    theirs = own.encode(texts, normalize_embeddings=True)
    assert (await embedder.embed(texts) * theirs).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
async def test_another_architecture_with_prompts_runs_as_a_graph(
    tmp_path: Path, pooling: str
) -> None:
    from sentence_transformers.sentence_transformer.modules import Normalize

    prompts = {"query": "query: ", "document": "the "}
    model = distilbert(tmp_path, pooling, Normalize(), prompts=prompts)
    least, events = await agreement(settings(model, tmp_path / "graphs"), model)
    assert least >= 0.9999
    assert "embedding_falls_back_to_torch" not in events
    assert "embedding_graph_export" in events
    least, events = await agreement(settings(model, tmp_path / "graphs"), model)
    assert least >= 0.9999
    assert "embedding_graph_export" not in events


UNFIT: dict[str, Callable[[Path], Path]] = {
    "another module": lambda folder: narrowed(folder),
    "prompts that are not pooled": lambda folder: instructor(folder),
}


def narrowed(folder: Path) -> Path:
    """A model with a module that no graph has."""
    from sentence_transformers.base.modules import Dense

    return distilbert(folder, "mean", Dense(16, 8))


def instructor(folder: Path) -> Path:
    """A model whose pooling leaves the prompt's tokens out."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(distilbert(folder)), device="cpu", prompts={"query": "a b"})
    model.set_pooling_include_prompt(False)
    model.save(str(folder / "instructor"), create_model_card=False)
    return folder / "instructor"


@pytest.mark.parametrize("unfit", UNFIT)
async def test_a_model_that_no_graph_can_stand_for_runs_on_torch(
    tmp_path: Path, unfit: str
) -> None:
    model = UNFIT[unfit](tmp_path)
    least, events = await agreement(settings(model, tmp_path / "graphs"), model)
    assert least >= 0.9999
    assert events.count("embedding_falls_back_to_torch") == 1
    assert list((tmp_path / "graphs").iterdir()) == []


async def test_a_graph_that_gives_other_vectors_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = distilbert(tmp_path)
    monkeypatch.setattr(convert, "document_prompt", lambda _: "a b c d ")
    least, events = await agreement(settings(model, tmp_path / "graphs"), model)
    assert least >= 0.9999
    assert "embedding_falls_back_to_torch" in events
    assert list((tmp_path / "graphs").iterdir()) == []


def operators(graphs: Path) -> set[str]:
    """Of the one graph there."""
    return {node.op_type for node in onnx.load(only(graphs) / "model.onnx").graph.node}


async def test_attention_is_one_operator_in_a_graph() -> None:
    embedder = build_embedder(EmbeddingSettings(engine="onnxruntime"))
    await embedder.open()
    await embedder.close()
    model = Path(locate_model(EmbeddingSettings()))
    graphs = cache.default_folder()
    assert graphs is not None
    graph = onnx.load(graphs / cache.key_of(model) / "model.onnx").graph
    assert {"Attention", "SkipLayerNormalization", "BiasGelu"} <= {
        node.op_type for node in graph.node
    }


def fail(*_: object) -> None:
    raise KeyError("a node that is not there")


def swap_inputs(graph: Path, _: object) -> None:
    """Rewrite a graph into one that loads and gives other vectors."""
    whole = onnx.load(graph)
    for node in whole.graph.node:
        if node.op_type == "Sub":
            node.input[0], node.input[1] = node.input[1], node.input[0]
        elif node.op_type == "Erf":
            node.op_type = "Tanh"
    onnx.save(whole, graph)


SPOILS: dict[str, tuple[str, Callable[..., object]]] = {
    "the model keeps its attention": ("plain_attention", fail),
    "fusing fails": ("fuse", fail),
    "fusing leaves no graph": ("fuse", lambda graph, _: graph.write_bytes(b"onnx")),
    "fusing gives other vectors": ("fuse", swap_inputs),
}


@pytest.mark.parametrize("spoils", SPOILS)
async def test_a_graph_that_fusing_spoils_is_used_as_it_was_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoils: str
) -> None:
    model = distilbert(tmp_path)
    monkeypatch.setattr(convert, *SPOILS[spoils])
    least, events = await agreement(settings(model, tmp_path / "graphs"), model)
    assert least >= 0.9999
    assert "embedding_falls_back_to_torch" not in events
    assert "MatMul" in operators(tmp_path / "graphs")
    assert "SkipLayerNormalization" not in operators(tmp_path / "graphs")


def empty(folder: Path) -> None:
    """Leave no file in a folder."""
    for path in folder.iterdir():
        path.unlink()


def only(folder: Path) -> Path:
    """The one entry of a folder."""
    (entry,) = folder.iterdir()
    return entry


DAMAGE: dict[str, Callable[[Path], object]] = {
    "graph is cut off": lambda graph: (graph / "model.onnx").write_bytes(b"onnx"),
    "tokenizer is missing": lambda graph: (graph / "tokenizer.json").unlink(),
    "manifest is cut off": lambda graph: (graph / "manifest.json").write_text("{"),
    "manifest is of another program": lambda graph: (graph / "manifest.json").write_text("[]"),
    "folder is empty": lambda graph: empty(graph),
}


@pytest.fixture(scope="module")
async def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model and a folder with its graph."""
    folder = tmp_path_factory.mktemp("exported")
    model = distilbert(folder)
    await agreement(settings(model, folder / "graphs"), model)
    return model, folder / "graphs"


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_graph_is_exported_again(
    exported: tuple[Path, Path], tmp_path: Path, damage: str
) -> None:
    model, graphs = exported[0], tmp_path / "graphs"
    shutil.copytree(exported[1], graphs)
    DAMAGE[damage](only(graphs))
    least, events = await agreement(settings(model, graphs), model)
    assert least >= 0.9999
    assert "embedding_falls_back_to_torch" not in events
    assert cache.find(only(graphs)) is not None


async def test_other_weights_are_another_graph(tmp_path: Path) -> None:
    graphs = tmp_path / "graphs"
    for name in ("one", "other"):
        model = distilbert(tmp_path / name)
        assert (await agreement(settings(model, graphs), model))[0] >= 0.9999
    assert len(list(graphs.iterdir())) == 2


async def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    model = distilbert(tmp_path)
    (tmp_path / "file").write_text("")
    least, events = await agreement(settings(model, tmp_path / "file" / "graphs"), model)
    assert least >= 0.9999
    assert "embedding_cache_unwritable" in events
    assert "embedding_falls_back_to_torch" not in events


def test_of_two_exports_at_once_one_is_kept(tmp_path: Path) -> None:
    final = tmp_path / "graphs" / "key"
    meet = threading.Barrier(2)

    def export() -> None:
        with cache.new_folder(final) as new:
            (new / "manifest.json").write_text("{}")
            meet.wait(20)

    both = [threading.Thread(target=export) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(20)
    assert only(tmp_path / "graphs") == final


async def test_torch_can_be_asked_for(tmp_path: Path) -> None:
    model = distilbert(tmp_path)
    wanted = settings(model, tmp_path / "graphs", engine="torch")
    least, events = await agreement(wanted, model)
    assert least >= 0.9999
    assert not (tmp_path / "graphs").exists()
    assert "embedding_falls_back_to_torch" not in events


APART = """
import asyncio, sys
from pathlib import Path
from app.embedding import build_embedder
from app.settings import EmbeddingSettings
async def main():
    embedder = build_embedder(EmbeddingSettings(
        model=sys.argv[1], cache_dir=Path(sys.argv[2]), engine="onnxruntime"))
    await embedder.open()
    await embedder.embed(["the kettle"])
    await embedder.close()
asyncio.run(main())
print({"torch", "transformers", "sentence_transformers"} & set(sys.modules))
"""


def test_a_process_that_embeds_never_imports_torch(tmp_path: Path, root: Path) -> None:
    model = distilbert(tmp_path)
    command = [sys.executable, "-c", APART, str(model), str(tmp_path / "graphs")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1:] == ["set()"], done.stdout + done.stderr
    assert len(list((tmp_path / "graphs").iterdir())) == 1, done.stdout


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_engine_and_a_device_that_do_not_go_together_are_refused(engine: Any) -> None:
    with pytest.raises(ValueError, match="MEMORY_EMBEDDING_ENGINE"):
        EmbeddingSettings(engine=engine, device="cuda")


async def test_a_broken_model_is_refused_in_the_process_that_exports(tmp_path: Path) -> None:
    model = distilbert(tmp_path)
    (model / "model.safetensors").unlink()
    embedder = build_embedder(settings(model, tmp_path / "graphs", engine="onnxruntime"))
    with pytest.raises(ConfigurationError, match="MEMORY_EMBEDDING_MODEL"):
        await embedder.open()
    await embedder.close()


@pytest.mark.parametrize(("quota", "most"), [("100000 100000", 1), ("50000 100000", 1)])
def test_a_containers_quota_bounds_the_threads(tmp_path: Path, quota: str, most: int) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    assert cores(tmp_path / "cpu.max") == most
    (tmp_path / "cpu.max").write_text("max 100000")
    assert cores(tmp_path / "cpu.max") >= 1
