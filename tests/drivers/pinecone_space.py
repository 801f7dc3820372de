"""A namespace of the fake Pinecone: a log of writes, which each kind of read shows in its time."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.exceptions import HTTPException

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stored:
    """A vector as it is kept."""

    values: Floats
    metadata: dict[str, Any]


@dataclass
class Space:
    """One namespace. `log`: when, and what each id became; None: deleted."""

    log: list[tuple[float, dict[str, Stored | None]]] = field(default_factory=list)
    now: dict[str, Stored] = field(default_factory=dict)

    def write(self, at: float, changes: dict[str, Stored | None]) -> int:
        """Do it; the number of the write."""
        self.log.append((at, changes))
        _apply(self.now, changes)
        return len(self.log)

    def seen(self, until: float) -> tuple[dict[str, Stored], int]:
        """What a read shows that knows all writes until then, and how many these are."""
        count = sum(at <= until for at, _ in self.log)
        if count == len(self.log):
            return self.now, count
        shown: dict[str, Stored] = {}
        for _, changes in self.log[:count]:
            _apply(shown, changes)
        return shown, count


def _apply(state: dict[str, Stored], changes: dict[str, Stored | None]) -> None:
    for one, stored in changes.items():
        if stored is None:
            state.pop(one, None)
        else:
            state[one] = stored


def checked(vector: Any, dimension: int) -> tuple[str, Stored]:
    """A vector of an upsert as it is kept; raises what Pinecone answers for one that it refuses."""
    if not isinstance(vector, dict) or vector.keys() - {"id", "values", "metadata", "sparseValues"}:
        raise HTTPException(400, "a vector has fields that are not known")
    one, values = vector.get("id"), vector.get("values")
    if not isinstance(one, str) or not 1 <= len(one) <= 512 or "\0" in one:
        raise HTTPException(400, "ID must have 1 to 512 characters")
    if not one.isascii():
        raise HTTPException(400, f"ID must be ASCII, but got '{one}'")
    if not isinstance(values, list) or not all(
        isinstance(each, (int, float)) and math.isfinite(each) for each in values
    ):
        raise HTTPException(400, "values must be a list of numbers")
    if len(values) != dimension:
        told = f"Vector dimension {len(values)} does not match the dimension of the index"
        raise HTTPException(400, f"{told} {dimension}")
    kept = np.array(values, np.float32)
    if not kept.any():
        told = "Dense vectors must contain at least one non-zero value."
        raise HTTPException(400, f"{told} Vector ID '{one}' contains only zeros")
    return one, Stored(kept, _metadata(vector.get("metadata") or {}))


def _metadata(given: dict[str, Any]) -> dict[str, Any]:
    """As it is kept: numbers are floats, and what is null is gone."""
    size = len(json.dumps(given, separators=(",", ":"), ensure_ascii=False).encode())
    if size > 40_960:
        told = f"metadata size is {size} bytes, which exceeds the limit of 40960 bytes"
        raise HTTPException(400, f"{told} per vector")
    kept: dict[str, Any] = {}
    for name, value in given.items():
        if name.startswith("$"):
            raise HTTPException(400, f"Metadata field '{name}' cannot start with '$'")
        if isinstance(value, list):
            good = all(isinstance(each, str) for each in value)
        else:
            good = value is None or isinstance(value, (str, bool, int, float))
        if not good:
            told = "Metadata value must be a string, number, boolean or list of strings, got"
            raise HTTPException(400, f"{told} '{json.dumps(value)}' for field '{name}'")
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            kept[name] = float(value)
        elif value is not None:
            kept[name] = value
    return kept
