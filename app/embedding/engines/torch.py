"""sentence-transformers on torch: every model and device, and what graphs are exported from."""

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHARS_PER_TOKEN = 4


def load_model(place: str, name: str, device: str) -> "SentenceTransformer":
    """The model at `place`; `name` is what the operator calls it.

    Raises `ConfigurationError`.
    """
    try:
        library = importlib.import_module("sentence_transformers")
        torch = importlib.import_module("torch")
        transformers_logging = importlib.import_module("transformers.utils.logging")
    except ImportError as error:
        raise ConfigurationError(
            f"embedding needs sentence-transformers ({error}): pip install '.[embedding]'"
        ) from error
    transformers_logging.disable_progress_bar()
    try:
        torch.zeros(1, device=device)
    except (AssertionError, RuntimeError) as error:
        raise ConfigurationError(
            f"MEMORY_EMBEDDING_DEVICE: {device!r} is not a device here"
        ) from error
    try:
        model: SentenceTransformer = library.SentenceTransformer(place, device=device)
    except Exception as error:  # a broken model can make the library raise anything
        raise ConfigurationError(
            f"MEMORY_EMBEDDING_MODEL: the model {name!r} can't be loaded "
            f"({type(error).__name__}). Give the path of a downloaded model, or let this "
            "machine reach the Hugging Face hub."
        ) from error
    if model.get_embedding_dimension() is None:
        raise ConfigurationError(f"MEMORY_EMBEDDING_MODEL: {name!r} does not tell its dimension")
    return model


class TorchEngine(Engine):
    """One model, one pass at a time."""

    name: ClassVar[str] = "torch"
    parallel: ClassVar[bool] = False

    def __init__(self, model: "SentenceTransformer", threads: int | None) -> None:
        if threads is not None:
            importlib.import_module("torch").set_num_threads(threads)
        self._model = model
        dimension = model.get_embedding_dimension()
        assert dimension is not None  # noqa: S101 - load_model refuses such a model
        self.dimension = dimension
        self.max_tokens = model.get_max_seq_length()

    def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        most = self.max_tokens or 512
        return [
            Prepared(min(len(text) // _CHARS_PER_TOKEN + 2, most), (text, query)) for text in texts
        ]

    def run(self, batch: Sequence[Prepared]) -> Vector:
        query = batch[0].payload[1]
        return encode(self._model, [prepared.payload[0] for prepared in batch], query=query)


def encode(model: "SentenceTransformer", texts: list[str], *, query: bool) -> Vector:
    """The model's own vectors: float32, shape (len(texts), dimension), length 1."""
    own = model.encode_query if query else model.encode_document
    vectors = own(
        texts,
        batch_size=len(texts),
        normalize_embeddings=True,
        convert_to_numpy=True,
        show_progress_bar=False,
    )
    return np.asarray(vectors, np.float32)
