"""An answer as bytes: who gave it, a line break, and its records as JSON."""

import json
from typing import Any

from app.core.memory import codec
from app.core.memory.records import Recalled

_LARGEST = 1 << 20
"""Bytes of an answer that is worth keeping: a larger one would hold everyone up when it is read."""


def pack(answer: Recalled[Any]) -> bytes | None:
    """None for an answer that is too large, or is no JSON."""
    try:
        text = f"{json.dumps(answer.driver)}\n{codec.encode(answer)}"
        packed = text.encode("utf-8", "surrogatepass")
    except (AttributeError, TypeError, ValueError, RecursionError):  # of somebody's own driver
        return None
    return packed if len(packed) <= _LARGEST else None


def unpack(packed: bytes, *, cached: bool) -> Recalled[Any] | None:
    """The answer, with records of its own; None for bytes that are none."""
    try:
        driver, _, records = packed.decode("utf-8", "surrogatepass").partition("\n")
        return Recalled(codec.decode(records), driver=json.loads(driver), cached=cached)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        return None
