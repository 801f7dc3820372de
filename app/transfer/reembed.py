"""Every record of a driver by another model, while services go on reading and writing."""

import asyncio
from dataclasses import dataclass
from typing import Final

from app.core.memory.reembedding import Reembedding

_AGAIN_SECONDS: Final = 0.5
"""From one look whether the switch can be made to the next."""


@dataclass(slots=True)
class Reembedded:
    """How far it is."""

    step: str = "begin"
    """What is being done: begin, fill, switch, end; or over."""
    records: int | None = None
    """How many there are, once they are counted."""
    done: int = 0
    """How many of them the second place has."""
    waiting: str | None = None
    """What the switch waits for."""


async def reembed(
    work: Reembedding, told: Reembedded | None = None, *, force: bool = False
) -> Reembedded:
    """Do all that is left to do: fill, switch, end. `work` is open.

    Until the switch all records keep their old vectors, and whoever is killed leaves what another
    call goes on with. With `force` the switch does not wait for services that lack the model:
    those then serve nothing that needs vectors. Raises what the steps of `work` raise.
    """
    told = told or Reembedded()
    told.step = "begin"
    await work.begin()
    if await work.state() == "filling":
        await _fill(work, told)
        await _switch(work, told, force=force)
    told.step, told.waiting = "end", None
    await work.end()
    told.step = "over"
    return told


async def call_off(work: Reembedding) -> bool:
    """Leave the records as they are; whether there was something to call off.

    After the switch the new vectors are in use, and nothing can be called off.
    """
    state = await work.state()
    if state != "switched":
        await work.end()
    return state == "filling"


async def _fill(work: Reembedding, told: Reembedded) -> None:
    told.step = "fill"
    count = await work.count()
    told.records, told.done = count.records, count.done
    async for batch in work.missing():
        await work.keep(batch)
        told.done += len(batch)


async def _switch(work: Reembedding, told: Reembedded, *, force: bool) -> None:
    while True:
        told.step = "switch"
        told.waiting = None if force else await work.hindrance()
        if told.waiting is None:
            if await work.switch():
                return
            told.waiting = "others use the tables, or write much: it is tried again"
        await asyncio.sleep(_AGAIN_SECONDS)
        async for batch in work.missing():
            await work.keep(batch)
