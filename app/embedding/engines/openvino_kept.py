"""A graph as OpenVINO reads it best, kept beside the exported one once its vectors were compared.

Its weights are fp16, half the bytes, and OpenVINO maps them from the file. The result of the
comparison is kept too, so that the next start needs no second engine.
"""

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from app.embedding.graph import agreement
from app.embedding.graph.manifest import GRAPH, sha256
from app.logs import get_logger

_GRAPH, _WEIGHTS = "graph.xml", "graph.bin"
_FILES = (_GRAPH, _WEIGHTS)
_VERDICT = "verdict.json"

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of the vectors."""

    precision: str
    """What they were computed in."""
    cosine: float
    """The least of theirs and ONNX Runtime's."""
    files: dict[str, str]
    """The SHA-256 of the files, in hex digits."""


class Kept:
    """The kept graph of one folder of the cache, for this processor and this OpenVINO."""

    def __init__(self, folder: Path, openvino: Any) -> None:
        """`openvino` is the package."""
        self._folder = folder
        self._openvino = openvino
        self._place = folder / f"openvino-{_key(openvino)}"

    @property
    def graph(self) -> Path:
        """The kept graph."""
        return self._place / _GRAPH

    @property
    def weights(self) -> Path:
        """The file that its weights are mapped from."""
        return self._place / _WEIGHTS

    def verdict(self) -> Verdict | None:
        """What was found; None where nothing whole is kept."""
        try:
            verdict = Verdict(**json.loads((self._place / _VERDICT).read_text()))
            whole = all(sha256(self._place / name) == verdict.files[name] for name in _FILES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            whole, verdict = False, None
            _log.warning("embedding_kept_graph_damaged", reason=f"{type(error).__name__}: {error}")
        return verdict if whole else None

    @contextlib.contextmanager
    def new(self) -> Iterator[Path | None]:
        """A new graph for the time of a block; None where it can't be written."""
        new: Path | None = None
        try:
            new = Path(tempfile.mkdtemp(prefix=".openvino-", dir=self._folder))
            graph = self._openvino.Core().read_model(str(self._folder / GRAPH))
            self._openvino.save_model(graph, str(new / _GRAPH), compress_to_fp16=True)
        except (OSError, RuntimeError) as error:
            _log.warning("embedding_graph_not_kept", reason=f"{type(error).__name__}: {error}")
            if new is not None:
                shutil.rmtree(new, ignore_errors=True)
            yield None
            return
        try:
            yield new / _GRAPH
        finally:
            shutil.rmtree(new, ignore_errors=True)

    def keep(self, graph: Path, precision: str, cosine: float) -> None:
        """Keep what `new` gave, from the next start on; without a word where that can't be."""
        new = graph.parent
        files = {name: sha256(new / name) for name in _FILES}
        verdict = Verdict(precision, cosine, files)
        with contextlib.suppress(OSError):  # another process may have been first
            (new / _VERDICT).write_text(json.dumps(asdict(verdict), indent=1))
            new.chmod(0o755)
            if self.verdict() is None:
                shutil.rmtree(self._place, ignore_errors=True)  # a damaged one
            new.rename(self._place)


def _key(openvino: Any) -> str:
    """A digest of what the vectors depend on beside the graph, and of what they are compared by."""
    core = openvino.Core()
    asked = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    processor = [str(core.get_property("CPU", name)) for name in asked]
    said = [openvino.__version__, *processor, agreement.AGREEMENT, agreement.SAMPLES, "timed"]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]
