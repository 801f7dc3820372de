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
    module: Any = model[0]
    transformer: Any = getattr(module, "auto_model", None)
    own = getattr(getattr(transformer, "config", None), "_attn_implementation", None)
    if own is None:
        yield
        return
    transformer.set_attn_implementation("eager")
    try:
        yield
    finally:
        transformer.set_attn_implementation(own)


def fuse(graph: Path) -> None:
    """Rewrite a graph; nothing vouches for its vectors.

    Raises anything where a model is not as the patterns take for granted.
    """
    optimizer = importlib.import_module("onnxruntime.transformers.optimizer")
    optimized = optimizer.optimize_model(str(graph), model_type="bert", opt_level=0)
    optimized.save_model_to_file(str(graph))
