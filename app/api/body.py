"""A body's JSON: bounded by a scan before anything is built from it, and stricter than Python's."""

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from itertools import accumulate
from typing import Any, NoReturn

from app.errors import InvalidInput

_LARGE = 65_536
"""Bytes of a body from which on it is worked on in a thread: others are answered meanwhile."""

_DEPTH = 128
"""Of nested arrays and objects; a legal body is about as deep as its metadata."""

_BYTES_PER_VALUE = 64
"""A body has no more values than its limit in bytes divided by this: a text is most of a record."""

_one_at_a_time = ThreadPoolExecutor(1, "body")
"""Python's parser is one call that lets nothing else run, so several would add up."""


async def parse(body: bytes, limit: int, build: Callable[[Any], Any]) -> Any:
    """The JSON in `body`, where `limit` bytes are allowed; of a large one, what `build` makes.

    Raises `InvalidInput` for what is no JSON or would be too dear to build.
    """
    if len(body) <= _LARGE:
        return _parse(body)
    run = copy_context().run
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_one_at_a_time, run, _parse_large, body, limit, build)


def _parse_large(body: bytes, limit: int, build: Callable[[Any], Any]) -> Any:
    _bound(body, limit)
    return build(_parse(body))


_STEPS = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}
_NO_BRACKET = bytes(set(range(256)) - set(_STEPS))


def _bound(body: bytes, limit: int) -> None:
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    values = limit // _BYTES_PER_VALUE
    if bare.count(b'"') > 4 * values:  # a key and a value are four
        raise _not_json("it has too many values")
    outside = b"".join(bare.split(b'"')[::2])
    if sum(map(outside.count, (b"[", b"{", b","))) > values:
        raise _not_json("it has too many values")
    steps = map(_STEPS.__getitem__, outside.translate(None, _NO_BRACKET))
    if max(accumulate(steps), default=0) > _DEPTH:
        raise _not_json("nested too deeply")


def _parse(body: bytes) -> Any:
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _not_json(f"not UTF-8 at byte {error.start}") from None
    return parse_text(text)


def parse_text(text: str) -> Any:
    """The JSON in a text that is not large; raises `InvalidInput` for what is none."""
    try:
        return _JSON.decode(text)
    except json.JSONDecodeError as error:
        raise _not_json(f"{error.msg} at line {error.lineno} column {error.colno}") from None
    except _Unusable as error:
        raise _not_json(str(error)) from None
    except RecursionError:
        raise _not_json("nested too deeply") from None
    except ValueError:
        raise _not_json("a number has too many digits") from None


class _Unusable(Exception):
    """What Python's parser lets pass: NaN, and a key given twice, of which it keeps the last."""


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
        raise _Unusable(f"an object has the key {json.dumps(repeated)} twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise _Unusable(f"{name} is not a number")


_JSON = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant)


def _not_json(reason: str) -> InvalidInput:
    return InvalidInput(f"invalid JSON: {reason}", ("body",))
