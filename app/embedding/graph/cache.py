"""Where exported graphs are kept, and under which key."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from app.embedding.graph.manifest import Incomplete, Manifest, sha256
from app.logs import get_logger
from app.private import is_safe

_log = get_logger(__name__)

_FORMAT = 2
"""Raised when an export of an older version of this code must not be used any more."""

_OTHERS = frozenset({"onnx", "openvino", "coreml", "__pycache__"})
"""Folders of a model that sentence-transformers on torch does not read."""


def default_folder() -> Path | None:
    """The user's cache, by the XDG base directory specification.

    None for a user without a home, and where others could put their graphs in the place of ours.
    """
    cache = os.environ.get("XDG_CACHE_HOME")
    try:
        caches = Path(cache) if cache and os.path.isabs(cache) else Path.home() / ".cache"
        folder = (caches / "memory-driver-service").resolve()
    except (RuntimeError, OSError):
        return None
    return folder if is_safe(folder) else None


def key_of(model: Path) -> str:
    """A digest of the model's files and of the libraries that make a graph of them."""
    digest = hashlib.sha256(f"onnx {_FORMAT}".encode())
    for library in ("sentence-transformers", "transformers"):
        with contextlib.suppress(PackageNotFoundError):
            digest.update(f"\n{library} {version(library)}".encode())
    for path in sorted(_files(model)):
        digest.update(f"\n{path.relative_to(model).as_posix()} {sha256(path)}".encode())
    return digest.hexdigest()[:32]


def _files(model: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(model, followlinks=True):
        folders[:] = [n for n in folders if n not in _OTHERS and not n.startswith(".")]
        for name in names:
            path = Path(folder) / name
            if not name.startswith(".") and path.suffix != ".md" and path.is_file():
                yield path


def find(folder: Path) -> Manifest | None:
    """The manifest of the whole export in `folder`, or None; a damaged one is told in the log."""
    if not folder.is_dir():
        return None
    try:
        return Manifest.read(folder)
    except Incomplete as error:
        _log.warning("embedding_graph_damaged", folder=str(folder), reason=str(error))
        return None


def is_writable(graphs: Path) -> bool:
    """Whether an export can be kept there; makes the folder."""
    try:
        graphs.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=graphs):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A folder that becomes `final`, at once and whole, when the block ends without an error.

    Two processes that export at once do no harm: the first that is done counts. Raises `OSError`
    where nothing can be written.
    """
    final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{final.name[:8]}-", dir=final.parent))
    try:
        yield new
        new.chmod(0o755)
        _replace(new, final)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _replace(new: Path, final: Path) -> None:
    for _ in range(10):
        try:
            new.rename(final)
        except OSError:
            if not final.is_dir():
                raise
            if find(final) is not None:
                return
            damaged = Path(tempfile.mkdtemp(prefix=".damaged-", dir=final.parent))
            with contextlib.suppress(OSError):  # another process may have taken it away
                final.rename(damaged)
            shutil.rmtree(damaged, ignore_errors=True)
        else:
            return
    raise OSError(f"{final} can't be replaced")
