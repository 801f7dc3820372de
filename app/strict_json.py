"""JSON read more strictly than Python does, and bounded before anything is built from it."""

import json
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, NoReturn

_DEPTH = 128
"""Of nested arrays and objects; a legal record is about as deep as its metadata."""

_BYTES_PER_VALUE = 64
"""There are no more values than the bytes that are allowed divided by this: most are texts."""


class NotJson(ValueError):
    """What is wrong with it, in words that a caller may read."""


def decode(text: bytes) -> Any:
    """The JSON in UTF-8 bytes; raises `NotJson`."""
    try:
        return parse(text.decode())
    except UnicodeDecodeError as error:
        raise NotJson(f"not UTF-8 at byte {error.start}") from None


def parse(text: str) -> Any:
    """The JSON in a text that is not large; raises `NotJson`, also for NaN and repeated keys."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except NotJson:
        raise
    except ValueError:
        raise NotJson("a number has too many digits") from None


def check_bounds(text: bytes, limit: int) -> None:
    """Raise `NotJson` for what would be too dear to build, where `limit` bytes are allowed."""
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    values = limit // _BYTES_PER_VALUE
    if bare.count(b'"') > 4 * values:  # a key and a value are four
        raise NotJson("it has too many values")
    outside = b"".join(bare.split(b'"')[::2])
    if sum(map(outside.count, (b"[", b"{", b","))) > values:
        raise NotJson("it has too many values")
    steps = map(_STEPS.__getitem__, outside.translate(None, _NO_BRACKET))
    if max(accumulate(steps), default=0) > _DEPTH:
        raise NotJson("nested too deeply")


_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKET = bytes(set(range(256)) - set(_STEPS))


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that was there before."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        repeated = first_repeated(name for name, _ in pairs)
        raise NotJson(f"an object has the key {json.dumps(repeated)} twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise NotJson(f"{name} is not a number")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)
