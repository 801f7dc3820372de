"""What a recall asks of a reranker."""

from abc import ABC, abstractmethod
from collections.abc import Sequence


class Reranker(ABC):
    """Scores texts for a query, off the event loop."""

    kind: str
    """Where the model is: local, or the form of the endpoint."""

    name: str | None
    """The model's; None where only the endpoint knows it."""

    @abstractmethod
    async def open(self) -> None:
        """Load the model, if it is here; twice is harmless. Raises `ConfigurationError`."""

    @abstractmethod
    async def close(self) -> None:
        """Release what `open` and `scores` made."""

    @abstractmethod
    async def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """How well each text answers the query, in their order: 0..1, higher is better.

        A caller who leaves leaves no work behind. Raises a `MemoryServiceError`, whose `reason` an
        operator may read.
        """
