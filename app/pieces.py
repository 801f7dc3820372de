"""Much work on the event loop, done in pieces so that others are answered in between."""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TypeVar

_SECONDS = 0.01
"""How long a piece takes; one value may take longer."""

Given = TypeVar("Given")
Made = TypeVar("Made")


async def in_pieces(make: Callable[[Given], Made], values: Iterable[Given]) -> list[Made]:
    """`[make(value) for value in values]`, where other tasks have their turn meanwhile."""
    made: list[Made] = []
    since = monotonic()
    for value in values:
        made.append(make(value))
        if monotonic() - since > _SECONDS:
            await asyncio.sleep(0)
            since = monotonic()
    return made
