"""The benchmark of models: what it asks of each, and the row that it prints."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.embedding import Embedder, Vector
from benchmarks.models import HEADINGS, Measured, cost, megabytes, settings_of
from benchmarks.quality.figures import Figures

FUSED, VECTOR = Figures(0.1, 0.802, 0.3, 0.655, 0.4), Figures(0.1, 0.452, 0.3, 0.311, 0.4)


class Counting(Embedder):
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.queries: list[str] = []
        self.batches: list[int] = []

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    async def embed_query(self, text: str) -> Vector:
        self.queries.append(text)
        return np.ones(1, np.float32)

    async def embed(self, texts: Sequence[str]) -> Vector:
        self.batches.append(len(texts))
        return np.ones((len(texts), 1), np.float32)


def measured() -> Measured:
    return Measured("small", "onnxruntime", 384, 256, 91.6, FUSED, VECTOR)


async def test_a_round_asks_each_query_alone_and_embeds_texts_in_batches_of_32() -> None:
    embedder, row = Counting(), measured()
    await cost(embedder, row, ["a", "b"], ["text"] * 70)
    assert embedder.queries == ["a", "b"]
    assert embedder.batches == [32, 32, 6]
    assert (len(row.query_ms), len(row.texts_per_second)) == (1, 1)


def test_a_row_has_a_cell_for_every_heading() -> None:
    row = measured()
    row.query_ms, row.texts_per_second = [5.0, 4.04, 9.0], [200.0, 1_500.4, 300.0]
    cells = row.row().strip("| ").split(" | ")
    assert cells == [
        *("small", "onnxruntime", "384", "256", "92", "0.802", "0.655", "0.452", "0.311"),
        *("5.0 (4.0 to 9.0)", "300 (200 to 1,500)"),
    ]
    assert len(cells) == len(HEADINGS)


def test_a_row_leaves_out_what_an_endpoint_does_not_tell() -> None:
    row = Measured("small", "openai", 384, None, None, FUSED, VECTOR, [5.0], [200.0])
    assert "| 384 |  |  | 0.802 |" in row.row()


@pytest.mark.parametrize(
    ("model", "name", "url"),
    [
        ("/models/small", "/models/small", None),
        ("BAAI/bge-small-en-v1.5", "BAAI/bge-small-en-v1.5", None),
        ("me@home/small", "me@home/small", None),
        ("e5@http://127.0.0.1:8080/v1", "e5", "http://127.0.0.1:8080/v1"),
        ("e5@https://models.internal/v1", "e5", "https://models.internal/v1"),
    ],
)
def test_a_model_is_a_place_or_a_name_at_an_endpoint(
    model: str, name: str, url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDING_URL", "http://another:8080/v1")
    settings = settings_of(model)
    assert (settings.model, settings.url) == (name, url)


def test_the_size_of_a_model_is_that_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "model.safetensors").write_bytes(b"0" * 1_500_000)
    (tmp_path / "1_Pooling" / "config.json").write_bytes(b"0" * 500_000)
    assert megabytes(settings_of(str(tmp_path))) == 2
    assert megabytes(settings_of("e5@http://127.0.0.1:8080/v1")) is None
