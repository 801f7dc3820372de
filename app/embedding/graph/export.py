"""Exports the configured model's graph into the cache: `python -m app.embedding.graph.export`."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from app.embedding.engines.torch import load_model
from app.embedding.graph import cache
from app.embedding.graph.convert import Unsupported, convert
from app.embedding.locate import local_folder, locate_model
from app.errors import ConfigurationError
from app.settings import load_settings

_REFUSED = 3


def export(place: str, name: str, graphs: Path) -> Path:
    """Export the model at `place` unless that is done; the folder of the graph.

    Raises `ConfigurationError`, `Unsupported`, or `OSError` where nothing can be written.
    """
    model = load_model(place, name, "cpu")
    folder = local_folder(place)
    if folder is None:
        raise Unsupported("its files are not in a folder")
    final = graphs / cache.key_of(folder)
    if cache.find(final) is None:
        with cache.new_folder(final) as new:
            convert(model, name, new)
    return final


def export_apart(place: str, name: str, graphs: Path) -> None:
    """The same in a process of its own, so that this one never holds torch.

    Where torch is loaded already, here.
    """
    if "torch" in sys.modules:
        export(place, name, graphs)
        return
    done = subprocess.run(  # noqa: S603 - our own module, with paths that we made
        [sys.executable, "-m", __name__, place, name, str(graphs)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == _REFUSED:
        kind, reason = json.loads(done.stdout.splitlines()[-1])
        raise (ConfigurationError if kind == "ConfigurationError" else Unsupported)(reason)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
        raise Unsupported(f"exporting ended with {done.returncode}: {last[:300]}")


def main(arguments: list[str]) -> int:
    """With place, name and folder of the graphs, or with the settings of the environment."""
    try:
        if arguments:
            place, name, graphs = arguments
        else:
            settings = load_settings().embedding
            place, name = locate_model(settings), settings.model
            folder = settings.cache_dir or cache.default_folder()
            if folder is None:
                raise ConfigurationError(
                    "MEMORY_EMBEDDING_CACHE_DIR: this user has no cache of its own: name a folder"
                )
            graphs = str(folder)
        importlib.import_module("onnxruntime")
        print(export(place, name, Path(graphs)))  # noqa: T201 - the answer of a command
    except (ConfigurationError, Unsupported, ImportError, OSError) as error:
        print(json.dumps([type(error).__name__, str(error)]))  # noqa: T201
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
