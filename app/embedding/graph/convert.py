"""A loaded sentence-transformers model as a graph: traced by torch, and compared with it."""

import contextlib
import importlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.embedding.engines.torch import document_prompt, encode, query_prompt
from app.embedding.graph.agreement import AGREEMENT, SAMPLES, alone, least_cosine, together
from app.embedding.graph.fusion import fuse, plain_attention
from app.embedding.graph.manifest import GRAPH, TOKENIZER, Manifest, sha256

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class Unsupported(Exception):
    """The model can't be run as a graph without sentence-transformers; says why."""


def convert(model: "SentenceTransformer", name: str, folder: Path) -> Manifest:
    """Write the graph, the tokenizer and the manifest into `folder`.

    Raises `Unsupported` where their vectors are not the model's.
    """
    _check_modules(model)
    tokenizer = _write_tokenizer(model, folder)
    graph = folder / GRAPH
    with contextlib.suppress(Exception):  # then as the model is: nothing was wrong but the attempt
        with plain_attention(model):
            _trace(model, graph)
        fuse(graph, model)
        return _compared(model, name, folder, tokenizer)
    try:
        _trace(model, graph)
    except Unsupported:
        raise
    except Exception as error:  # tracing runs the model's own code, which can raise anything
        raise Unsupported(f"tracing failed: {type(error).__name__}") from error
    return _compared(model, name, folder, tokenizer)


def _compared(model: "SentenceTransformer", name: str, folder: Path, tokenizer: Any) -> Manifest:
    """The manifest of what lies in `folder`, written there too."""
    manifest = Manifest(
        model=name,
        dimension=int(model.get_embedding_dimension() or 0),
        max_tokens=int(model.get_max_seq_length() or 0),
        pad_id=int(tokenizer.pad_token_id or 0),
        query_prompt=query_prompt(model),
        document_prompt=document_prompt(model),
        files={file: sha256(folder / file) for file in (GRAPH, TOKENIZER)},
    )
    _compare(model, folder, manifest)
    manifest.write(folder)
    return manifest


def _check_modules(model: "SentenceTransformer") -> None:
    kinds = [type(module).__name__ for module in model]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise Unsupported(f"its modules are {', '.join(kinds)}")
    transformer: Any = model[0]
    if "message" in transformer.modalities or transformer.modalities != ["text"]:
        raise Unsupported(f"it reads {', '.join(map(str, transformer.modalities))}")
    for option in ("query_expansion", "query_length", "document_length"):
        if getattr(transformer, option, None) is not None:
            raise Unsupported(f"it has a {option}")
    pooling: Any = model[1]
    if not pooling.include_prompt and any(model.prompts.values()):
        raise Unsupported("its pooling leaves the prompt out")


def _write_tokenizer(model: "SentenceTransformer", folder: Path) -> Any:
    tokenizer: Any = model.tokenizer
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not getattr(tokenizer, "is_fast", False):
        raise Unsupported("its tokenizer has no Rust implementation")
    if tokenizer.padding_side != "right":
        raise Unsupported(f"its tokenizer pads on the {tokenizer.padding_side}")
    most = model.get_max_seq_length()
    if most is None or most > 1_000_000:
        raise Unsupported("it does not tell its max_seq_length")
    copy = type(backend).from_str(backend.to_str())
    copy.no_padding()
    copy.enable_truncation(most, direction=tokenizer.truncation_side)
    copy.save(str(folder / TOKENIZER))
    return tokenizer


def _trace(model: "SentenceTransformer", path: Path) -> None:
    torch: Any = importlib.import_module("torch")
    model.eval()
    features = model.preprocess(["a kettle", "a kettle of copper that is longer than the other"])
    inputs = [name for name in _INPUTS if name in features]
    tensors = {name for name, value in features.items() if isinstance(value, torch.Tensor)}
    if tensors != set(inputs) or "attention_mask" not in inputs:
        raise Unsupported(f"it takes {', '.join(sorted(tensors))}")
    rest = {name: value for name, value in features.items() if name not in tensors}

    class Whole(torch.nn.Module):  # type: ignore[misc]  # torch is imported late, thus Any
        """Every module in a row, from tokens to unit vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Any) -> Any:
            state = {**rest, **dict(zip(inputs, tensors, strict=True))}
            for module in self.model:
                state = module(state)
            vectors = state["sentence_embedding"][:, : model.truncate_dim]
            return torch.nn.functional.normalize(vectors, p=2, dim=1)

    axes = {name: {0: "batch", 1: "tokens"} for name in inputs}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of values that become constants: _compare tells
        torch.onnx.export(
            Whole().eval(),
            tuple(features[name] for name in inputs),
            str(path),
            input_names=inputs,
            output_names=["vectors"],
            dynamic_axes={**axes, "vectors": {0: "batch"}},
            opset_version=17,
            dynamo=False,  # the newer exporter needs onnxscript, and more of every model
        )


def _compare(model: "SentenceTransformer", folder: Path, manifest: Manifest) -> None:
    from app.embedding.engines.onnx import OnnxEngine  # needs onnxruntime

    engine = OnnxEngine(folder, manifest, threads=1)
    for query in (True, False):
        theirs = encode(model, SAMPLES, query=query)
        for run in (together, alone):
            cosine = least_cosine(run(engine, SAMPLES, query=query), theirs)
            if not cosine >= AGREEMENT:  # also for NaN
                raise Unsupported(f"its graph's vectors differ: cosine {cosine:.6f}")
