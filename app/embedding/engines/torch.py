"""sentence-transformers on torch: every model and device, and what graphs are exported from."""

import copy
import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from app.embedding.base import Vector
from app.embedding.engines.base import Engine, Prepared
from app.embedding.engines.tokens import CountingReader, TokenReader
from app.embedding.reader import Reader
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_CHARS_PER_TOKEN = 4
_ANY_LENGTH = 1_000_000
"""More tokens than this are said by models that have no bound."""


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

    def __init__(self, model: "SentenceTransformer", threads: int | None) -> None:
        if threads is not None:
            importlib.import_module("torch").set_num_threads(threads)
        self._model = model
        dimension = model.get_embedding_dimension()
        assert dimension is not None  # noqa: S101 - load_model refuses such a model
        self.dimension = dimension
        self.max_tokens = model.get_max_seq_length()
        self.reader = _reader(model, self.max_tokens)

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


def query_prompt(model: "SentenceTransformer") -> str:
    """What encode_query puts before a text."""
    return _prompt(model, "query")


def document_prompt(model: "SentenceTransformer") -> str:
    """What encode_document puts before a text."""
    return _prompt(model, "document", "passage", "corpus")


def _prompt(model: "SentenceTransformer", *names: str) -> str:
    for name in names:
        if name in model.prompts:
            return model.prompts[name] or ""
    return model.prompts.get(model.default_prompt_name or "") or ""


def _reader(model: "SentenceTransformer", max_tokens: int | None) -> Reader | None:
    """None for a model that reads texts of any length."""
    if max_tokens is None or max_tokens > _ANY_LENGTH:
        return None
    prompts = (query_prompt(model), document_prompt(model))
    tokenizer: Any = model.tokenizer  # a copy is read: the model changes its own at will
    in_rust = getattr(tokenizer, "backend_tokenizer", None)
    if in_rust is None:
        in_python = copy.deepcopy(tokenizer)
        return CountingReader(
            lambda text: len(in_python(text, verbose=False)["input_ids"]), prompts, max_tokens
        )
    own = type(in_rust).from_str(in_rust.to_str())
    own.no_padding()
    own.enable_truncation(max_tokens)
    return TokenReader(own, prompts, max_tokens)
