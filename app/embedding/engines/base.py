"""What the batching asks of an engine."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from app.embedding.base import Vector
from app.embedding.reader import Reader


@dataclass(frozen=True, eq=False)
class Prepared:
    """A text ready for the engine that prepared it."""

    length: int
    """Tokens that the engine will read, or nearly; at least 1."""
    payload: Any


class Engine(ABC):
    """A loaded model. Its methods block and are called in worker threads."""

    name: ClassVar[str]
    at_once: int = 1
    """How many passes may run at the same time, in threads of their own."""

    dimension: int
    max_tokens: int | None
    reader: Reader | None = None
    """How much of a text it reads; None where that is all of any."""

    @abstractmethod
    def prepare(self, texts: Sequence[str], *, query: bool) -> list[Prepared]:
        """The texts with the prompt of queries or of documents, cut to `max_tokens`."""

    @abstractmethod
    def run(self, batch: Sequence[Prepared]) -> Vector:
        """One pass: float32, shape (len(batch), dimension), length 1."""
