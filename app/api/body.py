"""A body's JSON: bounded by a scan before anything is built from it, and stricter than Python's."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from app import strict_json
from app.errors import InvalidInput
from app.strict_json import NotJson

_LARGE = 65_536
"""Bytes of a body from which on it is worked on in a thread: others are answered meanwhile."""

_one_at_a_time = ThreadPoolExecutor(1, "body")
"""Python's parser is one call that lets nothing else run, so several would add up."""


async def parse(body: bytes, limit: int, build: Callable[[Any], Any]) -> Any:
    """The JSON in `body`, where `limit` bytes are allowed; of a large one, what `build` makes.

    Raises `InvalidInput` for what is no JSON or would be too dear to build.
    """
    try:
        if len(body) <= _LARGE:
            return strict_json.decode(body)
        run = copy_context().run
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_one_at_a_time, run, _parse_large, body, limit, build)
    except NotJson as error:
        raise _not_json(error) from None


def _parse_large(body: bytes, limit: int, build: Callable[[Any], Any]) -> Any:
    strict_json.check_bounds(body, limit)
    return build(strict_json.decode(body))


def parse_text(text: str) -> Any:
    """The JSON in a text that is not large; raises `InvalidInput` for what is none."""
    try:
        return strict_json.parse(text)
    except NotJson as error:
        raise _not_json(error) from None


def _not_json(error: NotJson) -> InvalidInput:
    return InvalidInput(f"invalid JSON: {error}", ("body",))
