"""Reranking in this process, by a cross-encoder of sentence-transformers."""

import asyncio
import importlib
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from app.embedding.locate import locate
from app.errors import ConfigurationError, DriverError
from app.reranking.base import Reranker
from app.reranking.logits import logistic

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_BATCH = 8
"""Pairs of one pass. Between passes it is seen that a caller has left."""

_SCORING = ("ForSequenceClassification", "ForCausalLM")
"""How the names of architectures end that give scores, or words that stand for them."""


class LocalReranker(Reranker):
    """One model in one thread, which reranks one recall at a time."""

    kind = "local"

    def __init__(self, model: str) -> None:
        self.name = model
        self._model = model
        self._opening = asyncio.Lock()
        self._turn = asyncio.Lock()
        self._thread: ThreadPoolExecutor | None = None
        self._encoder: CrossEncoder | None = None

    async def open(self) -> None:
        async with self._opening:
            if self._encoder is not None:
                return
            if self._thread is None:  # one is there after an open that failed
                self._thread = ThreadPoolExecutor(1, "reranking")
            loop = asyncio.get_running_loop()
            self._encoder = await loop.run_in_executor(self._thread, _loaded, self._model)

    async def close(self) -> None:
        thread, self._thread, self._encoder = self._thread, None, None
        if thread is not None:
            thread.shutdown(wait=False)

    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        await self.open()
        async with self._turn:
            encoder, thread = self._encoder, self._thread
            if encoder is None or thread is None:
                raise DriverError(reason="the reranker is closed")
            given_up = threading.Event()
            pairs = [(query, text) for text in texts]
            loop = asyncio.get_running_loop()
            try:
                return await loop.run_in_executor(thread, _scores, encoder, pairs, given_up)
            finally:
                given_up.set()


def _scores(
    encoder: "CrossEncoder", pairs: Sequence[tuple[str, str]], given_up: threading.Event
) -> list[float]:
    found = np.zeros(len(pairs))
    longest_first = sorted(range(len(pairs)), key=lambda n: len(pairs[n][1]), reverse=True)
    for start in range(0, len(pairs), _BATCH):
        if given_up.is_set():
            break
        rows = longest_first[start : start + _BATCH]
        try:
            found[rows] = _logits(encoder, [pairs[row] for row in rows])
        except Exception as error:  # a model can make the library raise anything
            reason = f"the reranking model failed ({type(error).__name__})"
            raise DriverError(reason=reason) from error
    if not np.isfinite(found).all():
        raise DriverError(reason="the reranking model gave a score that is no number")
    return [logistic(float(logit)) for logit in found]


def _logits(encoder: "CrossEncoder", pairs: list[tuple[str, str]]) -> list[float]:
    """What the model gives, whatever its own last step is."""
    plain = importlib.import_module("torch").nn.Identity()
    found = encoder.predict(
        pairs, batch_size=len(pairs), activation_fn=plain, show_progress_bar=False
    )
    return [float(logit) for logit in found]


def _loaded(model: str) -> "CrossEncoder":
    """The model, loaded and warm. Blocks. Raises `ConfigurationError`."""
    try:
        library = importlib.import_module("sentence_transformers")
        transformers_logging = importlib.import_module("transformers.utils.logging")
    except ImportError as error:
        raise ConfigurationError(
            f"MEMORY_RERANK_MODEL needs {error.name}: pip install '.[embedding]'"
        ) from error
    transformers_logging.disable_progress_bar()
    place = locate(model, "MEMORY_RERANK_MODEL")
    try:
        encoder: CrossEncoder = library.CrossEncoder(place, device="cpu")
        _check(encoder, model)
        # The first pass is slower, and without a padding token only texts of one length pass.
        _logits(encoder, [("A query", "and a text."), ("A query", "and a text that is longer.")])
    except ConfigurationError:
        raise
    except Exception as error:  # a broken model can make the library raise anything
        raise ConfigurationError(
            f"MEMORY_RERANK_MODEL: the model {model!r} can't be loaded ({type(error).__name__}). "
            "Give the path of a downloaded cross-encoder, or let this machine reach the Hugging "
            "Face hub."
        ) from error
    return encoder


def _check(encoder: "CrossEncoder", model: str) -> None:
    if encoder.num_labels != 1:
        raise ConfigurationError(
            f"MEMORY_RERANK_MODEL: {model!r} gives {encoder.num_labels} scores of a pair of texts; "
            "a reranker gives one"
        )
    if not _is_trained(encoder):
        raise ConfigurationError(
            f"MEMORY_RERANK_MODEL: {model!r} is no cross-encoder: it can't score a pair of texts"
        )


def _is_trained(encoder: "CrossEncoder") -> bool:
    """Whether the score was learnt: for a model that has none the library makes up a last layer."""
    kinds = encoder.config.architectures if encoder.config is not None else None
    return len(encoder) > 1 or not kinds or kinds[0].endswith(_SCORING)
