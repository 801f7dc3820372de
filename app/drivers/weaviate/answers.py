"""What Weaviate answers, read with no more trust than it deserves."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from app.embedding import Vector
from app.errors import DriverError


@dataclass(frozen=True, slots=True)
class Row:
    """An object that a search gave."""

    uuid: str
    texts: Mapping[str, str]
    numbers: Mapping[str, float]
    distance: float | None
    """From the vector that was asked for; None where none was, or Weaviate has none."""
    vector: Vector | None


def rows_in(answer: Mapping[str, Any]) -> list[Row]:
    """The objects of a search's answer, in their order. Raises `DriverError` for another form."""
    try:
        return [_row(each) for each in answer.get("results") or []]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DriverError(reason="a search was answered in an unknown form") from error


def _row(result: Mapping[str, Any]) -> Row:
    metadata = result["metadata"]
    fields = result.get("properties", {}).get("nonRefProps", {}).get("fields", {})
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for name, value in fields.items():
        if "textValue" in value:
            texts[name] = value["textValue"]
        elif "numberValue" in value:
            numbers[name] = float(value["numberValue"])
    packed = metadata.get("vectorBytes")
    vector = None
    if packed:
        vector = np.frombuffer(base64.b64decode(packed), "<f4").astype(np.float32, copy=False)
    # What is not asked for, or not there, comes as 0: only this tells.
    distance = float(metadata["distance"]) if metadata.get("distancePresent") else None
    return Row(metadata["id"], texts, numbers, distance, vector)


def count_in(answer: Mapping[str, Any]) -> int:
    """How many objects were counted."""
    return _whole(answer.get("singleResult", {}), "objectsCount")


@dataclass(frozen=True, slots=True)
class Deleted:
    """What one call to delete did."""

    matches: int
    successful: int
    failed: int


def deleted_in(answer: Mapping[str, Any]) -> Deleted:
    """What a deletion did."""
    return Deleted(*(_whole(answer, name) for name in ("matches", "successful", "failed")))


def refused_in(answer: Mapping[str, Any]) -> dict[int, str]:
    """By their places, the objects of a batch that were not kept, and what Weaviate says."""
    try:
        errors = answer.get("errors") or []
        return {int(each.get("index", 0)): str(each.get("error", "")) for each in errors}
    except (TypeError, ValueError, AttributeError) as error:
        raise DriverError(reason="a batch was answered in an unknown form") from error


def _whole(answer: Mapping[str, Any], name: str) -> int:
    """A number of 64 bits, which JSON has as text; what is left out is 0."""
    try:
        return int(answer.get(name) or 0)
    except (TypeError, ValueError) as error:
        raise DriverError(reason="a count was answered in an unknown form") from error
