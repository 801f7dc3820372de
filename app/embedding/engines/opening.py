"""Which engine the settings give: an exported graph where it can, else torch."""

import importlib.util
import shutil
import tempfile
from pathlib import Path

from app.embedding.engines.base import Engine
from app.embedding.engines.processor import has_bf16
from app.embedding.graph import cache
from app.embedding.graph.manifest import Manifest
from app.embedding.locate import local_folder, locate_model
from app.errors import ConfigurationError
from app.logs import get_logger
from app.machine import cores
from app.settings import EmbeddingSettings

_log = get_logger(__name__)

_ONNXRUNTIME = {"onnxruntime": "embedding", "tokenizers": "embedding"}
_PACKAGES = {"onnxruntime": _ONNXRUNTIME, "openvino": {**_ONNXRUNTIME, "openvino": "openvino"}}
"""What each engine needs, and the extra that has it."""


class _NoGraph(Exception):
    """Why torch has to do it."""


def open_engine(settings: EmbeddingSettings) -> Engine:
    """The engine, loaded and warm. Blocks; the first time, for as long as an export takes.

    Raises `ConfigurationError`.
    """
    place = locate_model(settings)
    engine: Engine
    try:
        engine = _graph_engine(settings, place)
    except _NoGraph as reason:
        if settings.engine != "torch" and settings.device == "cpu":
            _log.warning("embedding_falls_back_to_torch", model=settings.model, reason=str(reason))
        from app.embedding.engines.torch import TorchEngine, load_model

        engine = TorchEngine(load_model(place, settings.model, settings.device), settings.threads)
    engine.run(engine.prepare(["The first pass is slower than those after it."], query=True))
    return engine


def _graph_engine(settings: EmbeddingSettings, place: str) -> Engine:
    if settings.engine == "torch" or settings.device != "cpu":
        raise _NoGraph
    wanted = _wanted(settings)
    for package, extra in _PACKAGES[wanted].items():
        if importlib.util.find_spec(package) is None:
            if settings.engine != "auto":
                raise ConfigurationError(
                    f"MEMORY_EMBEDDING_ENGINE: {package} is not installed: pip install '.[{extra}]'"
                )
            raise _NoGraph(f"{package} is not installed")

    graphs, temporary = settings.cache_dir or cache.default_folder(), None
    try:
        folder = _cached(place, graphs) if graphs is not None else None
        if folder is None:
            if graphs is None or not cache.is_writable(graphs):
                _log.warning(
                    "embedding_cache_unwritable",
                    folder=str(graphs) if graphs is not None else None,
                    change="MEMORY_EMBEDDING_CACHE_DIR",
                )
                graphs = temporary = Path(tempfile.mkdtemp(prefix="memory-embedding-"))
            folder = _exported(settings, place, graphs)
        manifest = cache.find(folder)
        if manifest is None:
            raise _NoGraph("its graph was lost again")
        return _on_graph(wanted, folder, manifest, settings.threads or cores())
    except (ConfigurationError, _NoGraph):
        raise
    except Exception as error:  # ONNX Runtime's own errors share no class but this
        raise _NoGraph(f"{type(error).__name__}: {str(error)[:200]}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def _wanted(settings: EmbeddingSettings) -> str:
    """onnxruntime or openvino, which is much faster in bf16, and hardly any in fp32."""
    if settings.engine == "auto" and has_bf16() and importlib.util.find_spec("openvino"):
        return "openvino"
    return "openvino" if settings.engine == "openvino" else "onnxruntime"


def _on_graph(wanted: str, folder: Path, manifest: Manifest, threads: int) -> Engine:
    if wanted == "openvino":
        from app.embedding.engines.openvino import open_openvino

        return open_openvino(folder, manifest, threads)
    from app.embedding.engines.onnx import OnnxEngine

    return OnnxEngine(folder, manifest, threads)


def _cached(place: str, graphs: Path) -> Path | None:
    model = local_folder(place)
    if model is None:
        return None
    folder = graphs / cache.key_of(model)
    return folder if cache.find(folder) is not None else None


def _exported(settings: EmbeddingSettings, place: str, graphs: Path) -> Path:
    from app.embedding.graph.convert import Unsupported
    from app.embedding.graph.export import export_apart

    _log.info("embedding_graph_export", model=settings.model, folder=str(graphs))
    try:
        export_apart(place, settings.model, graphs)
    except Unsupported as error:
        raise _NoGraph(str(error)) from error
    folder = _cached(place, graphs)
    if folder is None:
        raise _NoGraph("its graph was lost again")
    return folder
