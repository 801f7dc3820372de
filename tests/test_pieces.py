"""Much work on the event loop."""

import asyncio
import time

import pytest

from app.pieces import in_pieces


async def test_others_have_their_turn_meanwhile() -> None:
    longest, ended = 0.0, False

    async def watch() -> None:
        nonlocal longest
        while not ended:
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)

    def slowly(value: int) -> int:
        time.sleep(0.002)
        return value * 2

    watching = asyncio.ensure_future(watch())
    assert await in_pieces(slowly, range(500)) == [value * 2 for value in range(500)]
    ended = True
    await watching
    assert longest < 0.5  # of the 1.0 s and more that the work takes


async def test_an_error_leaves_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_pieces(lambda value: 1 // value, [1, 0])
