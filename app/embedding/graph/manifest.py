"""What a folder of the cache holds, and whether it is whole."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

GRAPH = "model.onnx"
TOKENIZER = "tokenizer.json"
_MANIFEST = "manifest.json"


class Incomplete(Exception):
    """The folder is not a whole export."""


@dataclass(frozen=True)
class Manifest:
    """All that sentence-transformers would know of the model and the graph does not."""

    model: str
    dimension: int
    max_tokens: int
    pad_id: int
    query_prompt: str
    document_prompt: str
    files: dict[str, str]
    """The SHA-256 of each other file of the folder, in hex digits."""

    def write(self, folder: Path) -> None:
        (folder / _MANIFEST).write_text(json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The manifest of a folder whose files are all there and whole, else `Incomplete`."""
        try:
            manifest = cls(**json.loads((folder / _MANIFEST).read_text()))
            for name, digest in manifest.files.items():
                if sha256(folder / name) != digest:
                    raise Incomplete(f"{name} is damaged")
        except FileNotFoundError as error:
            raise Incomplete(f"{Path(error.filename).name} is missing") from error
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise Incomplete(f"{type(error).__name__}: {error}") from error
        return manifest


def sha256(path: Path) -> str:
    """In hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
