"""Another model for a driver's records: what the driver does of it, step by step.

The second model gets a second place of the same backend. What is there is a record of the first
place, in the version that it has there now: whoever changes or deletes a record of the first place
takes it out of the second at once. So what the second lacks is what is left to do, and no delete
comes back. When it lacks nothing, one switch lets it be the first. `app/transfer/reembed.py` is the
loop over these steps.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Literal

from app.core.memory.records import Record

State = Literal["none", "filling", "switched"]
"""Whether there is no second place, one that is being filled, or only an old one left to go."""


@dataclass(frozen=True, slots=True)
class Count:
    """How many records the first place has, and how many of them the second has."""

    records: int
    done: int


class Reembedding(ABC):
    """A driver's way to the vectors of another model, which services may use meanwhile.

    Every step may be repeated, by another process too, after one that was killed in it. Every step
    raises a `MemoryServiceError`: `DriverUnavailable` and `DriverTimeout` where it may work later.
    """

    in_process: bool = False
    """Whether the records are in the memory of this process: a command can't reach them."""

    @abstractmethod
    async def open(self) -> None:
        """Connect, and let nobody else do the same at the same time.

        Raises `InUse` where another process does. Whoever calls `open` calls `close`, also after
        an error.
        """

    @abstractmethod
    async def close(self) -> None:
        """Release what `open` made; what is in the backend stays, and another can go on."""

    @abstractmethod
    async def state(self) -> State:
        """How far it is."""

    @abstractmethod
    async def begin(self) -> None:
        """Load the second model, and make its place or find the one that is there.

        Raises `ConfigurationError` where there is one of a third model, and where the records have
        the vectors of this model already.
        """

    @abstractmethod
    async def count(self) -> Count:
        """How far the second place is filled, for people; it may be an estimate."""

    @abstractmethod
    def missing(self) -> AsyncIterator[Sequence[Record]]:
        """Records that the second place lacks, a batch at a time, until a pass has found all.

        The caller keeps each batch before the next one is asked for. What others store or change
        meanwhile may be left; the next call has it.
        """

    @abstractmethod
    async def keep(self, records: Sequence[Record]) -> None:
        """Embed the records by the second model, and keep them in the second place.

        One that the first place does not have in that version any more is left out.
        """

    @abstractmethod
    async def hindrance(self) -> str | None:
        """Why the switch had better wait: a service that has not loaded the second model."""

    @abstractmethod
    async def switch(self) -> bool:
        """Let the second place be the first, if it lacks nothing; whether it is so now.

        Writes wait meanwhile. False: it lacks too much, or others are in the way; fill it on and
        try again.
        """

    @abstractmethod
    async def end(self) -> None:
        """Delete the place that is not in use: after the switch the old one.

        Before the switch this calls the whole thing off: the driver is as it was.
        """
