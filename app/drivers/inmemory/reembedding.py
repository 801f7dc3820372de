"""Another model for the records of this process."""

from collections.abc import AsyncIterator, Sequence
from typing import Final

from app.core.memory.records import Record
from app.core.memory.reembedding import Count, Reembedding, State
from app.drivers.inmemory.places import Places
from app.embedding import Embedder, Model
from app.errors import ConfigurationError, DatabaseChanged, InUse

_BATCH: Final = 200
_FEW: Final = 20
"""So many records may be missing at a switch: their vectors are made while changes wait."""


class InMemoryReembedding(Reembedding):
    """The steps for the places of one driver. Nothing is left of the old place after the switch."""

    in_process = True

    def __init__(self, places: Places, embedder: Embedder) -> None:
        self._places = places
        self._embedder = embedder
        self._holds = False

    async def open(self) -> None:
        if self._places.is_held:
            raise InUse("these records are being brought another model at this moment")
        self._places.is_held = self._holds = True

    async def close(self) -> None:
        if self._holds:
            self._places.is_held = self._holds = False

    async def state(self) -> State:
        return "none" if self._places.next is None else "filling"

    async def begin(self) -> None:
        await self._embedder.open()
        ours = await Model.of(self._embedder)
        if self._places.next is not None:
            other = await self._places.next.model()
            if not other.is_same(ours):
                raise ConfigurationError(
                    f"the records are being brought to the model {other.name!r}: go on with that "
                    "one, or call it off first"
                )
            return
        await self._places.now.embedder.open()
        if (await self._places.now.model()).is_same(ours):
            raise ConfigurationError(
                f"the records have the vectors of the model {ours.name!r} already"
            )
        self._places.begin(self._embedder)

    async def count(self) -> Count:
        found = how_far(self._places)
        if found is None:
            raise DatabaseChanged(reason="there is no second place")
        return found

    async def missing(self) -> AsyncIterator[Sequence[Record]]:
        records = self._places.missing()
        for start in range(0, len(records), _BATCH):
            yield records[start : start + _BATCH]

    async def keep(self, records: Sequence[Record]) -> None:
        await self._places.keep(records)

    async def hindrance(self) -> str | None:
        return None

    async def switch(self) -> bool:
        return await self._places.switch(_FEW)

    async def end(self) -> None:
        self._places.next = None


def how_far(places: Places) -> Count | None:
    """How far a second place is; None where there is none."""
    if places.next is None:
        return None
    return Count(len(places.now.vectors), len(places.next.vectors))
