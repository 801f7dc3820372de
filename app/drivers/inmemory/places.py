"""The place in use, and beside it one that gets the vectors of another model.

What is in the second is a record of the first, in the version that it has there.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.core.memory.derived import Derived
from app.core.memory.records import Record, key_of
from app.drivers.inmemory.place import Place
from app.embedding import Embedder


class Places:
    """Changes records: what is changed in the first place is taken out of the second."""

    def __init__(self, embedder: Embedder, language: str) -> None:
        self.now = Place(embedder, language)
        """The place in use."""
        self.next: Place | None = None
        self.is_held = False
        """Whether somebody brings the records another model at this moment."""
        self._language = language
        self._switching = asyncio.Lock()

    def begin(self, embedder: Embedder) -> None:
        """Make a second place."""
        self.next = Place(embedder, self._language)

    @asynccontextmanager
    async def unchanged(self, place: Place) -> AsyncIterator[bool]:
        """In the block no other place comes into use; whether this one is in use."""
        async with self._switching:
            yield self.now is place

    def insert(self, record: Record, derived: Derived) -> None:
        """Keep it in the place of what is under its key."""
        if self.next is not None:
            self.next.remove(key_of(record))
        self.now.insert(record, derived)

    def remove(self, record: Record) -> None:
        """Keep it no more."""
        if self.next is not None:
            self.next.remove(key_of(record))
        self.now.remove(key_of(record))

    def missing(self) -> list[Record]:
        """What the second place lacks."""
        there = {} if self.next is None else self.next.vectors
        return [record for record in self.now.all() if key_of(record) not in there]

    async def keep(self, records: Sequence[Record]) -> None:
        """Embed records for the second place, and keep those that the first has in that version."""
        place = self.next
        if place is None:
            return
        made = await place.embedded(records)
        if self.next is place:
            for record, derived in zip(records, made, strict=True):
                if self.now.at(key_of(record)) is record:
                    place.insert(record, derived)

    async def switch(self, most: int) -> bool:
        """Let the second place be the one in use, if it lacks `most` records or fewer.

        Those are embedded first, and changes wait. False where it lacks more.
        """
        async with self._switching:
            lacking = self.missing()
            if self.next is None or len(lacking) > most:
                return False
            await self.keep(lacking)
            if self.missing():  # of what was deleted meanwhile nothing is left to keep
                return False
            self.now, self.next = self.next, None
            return True
