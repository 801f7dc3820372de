"""A traced transformer with fewer and larger operators, where ONNX Runtime knows its patterns.

It finds attention in the plain form only, which torch's own fused attention is not traced to.
"""

import contextlib
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@contextlib.contextmanager
def plain_attention(model: "SentenceTransformer") -> Iterator[None]:
    """Meanwhile attention is matrix products and a softmax, in models that have a choice."""
    transformer = _transformer(model)
    own = getattr(getattr(transformer, "config", None), "_attn_implementation", None)
    if own is None:
        yield
        return
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(own)


def fuse(graph: Path, model: "SentenceTransformer") -> None:
    """Rewrite the graph of a model; nothing vouches for its vectors.

    Raises anything where a model is not as the patterns take for granted.
    """
    config = _transformer(model).config
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    optimizer.optimize_model(
        str(graph),
        model_type="bert",  # and its kin
        num_heads=config.num_attention_heads,
        hidden_size=config.hidden_size,
        opt_level=0,
    ).save_model_to_file(str(graph))


def _transformer(model: "SentenceTransformer") -> Any:
    module: Any = model[0]
    return getattr(module, "auto_model", None)
